"""One answer under way: its tokens, its state, and what it has to say to its client."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Literal

from provider.engine.constraint import Blocks, ConstraintState
from provider.engine.detokenize import TextAssembler
from provider.engine.drafts import Drafter, Guess
from provider.engine.draws import WHOLE, Plan, Row, Rows
from provider.engine.habits import Habits
from provider.engine.job import Job
from provider.engine.loops import LoopGuard
from provider.engine.prefix import common_length
from provider.engine.request import GenerationRequest, Piece, TokenLogprob
from provider.engine.sampling import RowSampler, logprob
from provider.engine.vocabulary import Vocabulary

if TYPE_CHECKING:
    from provider.engine.adapters import Adapter
    from provider.engine.cache import Slot
    from provider.engine.native.kernels import Kernels

MOST_DRAFTS = 64
"""Guesses and forced tokens that one step checks or scores; each takes a row of logits."""

FEW_BLOCKS = 64
"""Blocks of 64 logits up to which a row has only those computed that its grammar allows."""

LIKELY = 0.9
"""How likely each further token of a text that must come is spelt as the tokenizer does it."""


class Answer:
    """`tokens` are the prompt, what was given after it, and what has been generated; the first
    `computed` are in the cache, `begin` is where the answer begins.

    Tokens after `computed` are pending: the next step feeds them. `drafts` are guesses that follow
    them in the same step, `agreed` says how many of the last ones were right. `forced` counts the
    generated tokens that the grammar forced. `resumed` answers have lost their slot once and start
    over.
    """

    def __init__(
        self,
        job: Job,
        index: int,
        vocabulary: Vocabulary,
        constraint: ConstraintState | None,
        max_tokens: int,
        *,
        force: bool = True,
        draft: bool = True,
        loop_tokens: int = 0,
        kernels: Kernels | None = None,
    ) -> None:
        request = job.request
        self.job = job
        self.index = index
        self.tokens = list(request.prompt)
        self.prompt = len(request.prompt)
        self.begin = self.prompt + len(request.given)
        self.computed = 0
        self.slot: Slot | None = None
        self.drafts: list[int] = []
        self.resumed = False
        self.agreed = 0
        self.predicted = 0
        self.accepted = 0
        self.rejected = 0
        self.forced = 0
        self.finished: Literal["stop", "length"] | None = None
        self.constraint = constraint
        self._ending = request.ending
        self._ends = _ends(request, vocabulary)
        self.sampler = RowSampler(
            request.sampling,
            index,
            kernels,
            prompt=request.prompt + request.given,
            ends=self._ends,
            min_tokens=request.ending.min_tokens,
        )
        self._guard = LoopGuard(
            loop_tokens, vocabulary.token_bytes, lambda: vocabulary.token_classes
        )
        self._drafter = None
        if draft:
            self._drafter = Drafter(request.prompt, request.prediction, vocabulary.token_bytes)
        self._max_tokens = max_tokens
        self._vocabulary = vocabulary
        self._force = force and constraint is not None
        self._text = TextAssembler(request.stop, keep=request.ending.keep_stop)
        self._top = request.sampling.logprobs
        self._forced: deque[int] = deque(request.given)
        self._given: list[TokenLogprob] = []
        self._released = ""
        self._started = False
        self._guesses: list[Guess] = []
        self._predicting = False

    @property
    def adapter(self) -> Adapter | None:
        return self.job.adapter

    @property
    def adapter_key(self) -> int:
        """Identifies the weights that computed this answer's cache; 0 is the base model."""
        return 0 if self.job.adapter is None else self.job.adapter.key

    def shared_prompt(self, other: Answer) -> int:
        """How many first tokens the prompts of two answers have in common."""
        return common_length(self.job.prompt, other.job.prompt)

    @property
    def generated(self) -> int:
        """Tokens of the answer; less than zero while given ones are missing."""
        return len(self.tokens) - self.begin

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed

    @property
    def prefilling(self) -> bool:
        """Whether part of the prompt is missing from the cache."""
        return self.computed < self.prompt

    @property
    def remaining(self) -> int:
        """Tokens that this answer may still generate."""
        return self._max_tokens - self.generated

    @property
    def format(self) -> tuple[str, int]:
        """Answers of one format resemble one another: the constraint and the adapter."""
        constraint = self.job.request.constraint
        return "" if constraint is None else constraint.key, self.adapter_key

    def guess(self, floor: float, habits: Habits | None) -> list[float]:
        """Makes guesses at the next tokens: how likely each is together with those before it.

        `floor` is how likely they must be. Forced tokens that wait for their log-probabilities
        are drafts that cannot fail, and leave no room for guesses.
        """
        self._guesses = []
        most = min(MOST_DRAFTS, self.remaining - 1)
        self.drafts = list(islice(self._forced, most))
        if self._forced or self._drafter is None or most < 1:
            return []
        guesses, self._predicting = self._drafter.guess(self.tokens, floor, habits)
        if self.constraint is not None:
            guesses = guesses or _falling(self.constraint.likely())
            guesses = guesses[: self.constraint.allows([token for token, _ in guesses])]
        self._guesses = guesses[:most]
        return [likely for _, likely in self._guesses]

    def draft(self, count: int) -> None:
        """Sets the next step's drafts to the first `count` guesses, or to what is forced."""
        self.drafts = self.drafts or [token for token, _ in self._guesses[:count]]
        self.predicted = len(self.drafts) if self._guesses and self._predicting else 0

    @property
    def _asks(self) -> bool:
        """Whether draws ask the constraint about single tokens first. (Before forced tokens have
        been taken a mask has those alone, in the tokenizer's spelling, where the grammar would
        permit any.)"""
        return self._force and self.sampler.asks

    def learn(self, habits: Habits) -> None:
        """Leaves what it has written to the drafts of other answers."""
        if self._drafter is not None:
            self._drafter.learn(self.tokens, habits)

    def start(self) -> None:
        """Takes what the constraint forces before the first token is drawn. Idempotent."""
        if not self._started:
            self._started = True
            self._take_forced()

    def prepare(self) -> None:
        """Computes the constraint's mask for the next draw, if that will look at it."""
        if self.constraint is not None and not self._forced and not self._asks:
            self.constraint.compute_mask()

    def plans(self) -> list[Plan]:
        """What the rows of the next `advance` will be read for, if the drafts are right."""
        rows = range(1 + len(self.drafts))
        asked = self.constraint is not None
        if self._top is not None or (asked and not self._asks):
            return [WHOLE for _ in rows]
        return [self.sampler.plan(self.generated + row, asked=asked) for row in rows]

    def outputs(self) -> list[Blocks | None]:
        """For each row of the next `advance` the blocks of logits that its draw can take a token
        from, if the drafts are right; None is all of them.

        What a greedy draw takes is the most likely token that the grammar allows, so other logits
        need not be computed.
        """
        rows = 1 + len(self.drafts)
        whole = self._top is not None or self._forced or not self.sampler.greedy
        if self.constraint is None or whole or not self._asks:
            return [None] * rows
        return self.constraint.blocks_ahead(self.drafts, FEW_BLOCKS)

    def advance(self, logits: Rows) -> None:
        """Draws from the step's logits `[1 + drafts, vocabulary]` float32, after `prepare`.

        The first row follows the last pending token, each further one a draft; they are used as
        long as the drafts are what was drawn.
        """
        end = len(self.tokens)
        while self.finished is None:
            taken = len(self.tokens) - end
            if self.tokens[end:] != self.drafts[:taken]:
                break
            self._draw(logits[taken], fresh=taken > 0)
        agreed = _common(self.tokens[end:], self.drafts)
        self.computed = end + agreed
        self._count_predicted(agreed)
        self.agreed = agreed
        self.drafts = []

    def emit(self) -> None:
        """Delivers the text that this step released, and the end if it is one."""
        ended = self.finished is not None
        if ended and not self._text.stopped:
            self._released += self._text.flush()
        scores = () if self._top is None else self._text.logprobs(everything=ended)
        scores, self._given = (*self._given, *scores), []
        if self._released or scores:
            self.job.deliver(Piece(self.index, self._released, scores, self.job.running()))
        self._released = ""
        if self.finished is not None:
            self.job.end(self, self.finished)

    def _draw(self, logits: Row, *, fresh: bool) -> None:
        """One more token; `fresh` means that the constraint's mask is of an earlier position."""
        if self.generated < 0:
            self.tokens.append(token := self._forced.popleft())
            self._given += filter(None, [self._score(logits, token)])
            return
        if self._forced:
            self._append(token := self._forced.popleft(), self._score(logits, token))
            self.forced += 1
            return
        token = self._choose(logits, fresh=fresh)
        if self.constraint is not None and token not in self._vocabulary.eos:
            self.constraint.accept(token)
        self._append(token, self._score(logits, token))
        self._take_forced()

    def _choose(self, logits: Row, *, fresh: bool) -> int:
        """The token that is drawn. A mask costs far more than asking about one token, so that is
        tried first, unless a loop has to be ended."""
        constraint = self.constraint
        if constraint is None:
            return self.sampler.choose(logits, self.generated, None)
        if self._asks:
            if self._guard.idle(self.tokens, self.begin):
                permits = constraint.permits
                token = self.sampler.choose_permitted(logits, self.generated, permits)
                if token is not None:
                    return token
            fresh = True
        if fresh:
            constraint.compute_mask()
        mask = self._guard.narrow(constraint.mask, self.tokens, self.begin)
        return self.sampler.choose(logits, self.generated, mask)

    def _take_forced(self) -> None:
        """Appends what the constraint forces; with log-probabilities it waits to be scored."""
        if self.constraint is None or self.finished is not None:
            return
        if self._force:
            self._forced.extend(self.constraint.forced())
            while self._forced and self._top is None and self.finished is None:
                self._append(self._forced.popleft(), None)
                self.forced += 1
        self._check_complete()

    def _append(self, token: int, score: TokenLogprob | None) -> None:
        self.tokens.append(token)
        self.sampler.accept(token)
        if token in self._ends:
            self.finished = "stop"
            if not self._ending.keep_stop:
                return
        over = self.generated > self._ending.min_tokens
        data = self._vocabulary.token_bytes[token]
        self._released += self._text.push(data, score, stops=over)
        if self._text.stopped or self.finished is not None:
            self.finished = "stop"
        elif self.generated >= self._max_tokens:
            self.finished = "length"
            self._check_complete()
        elif self._top is not None:
            self._check_complete()

    def _check_complete(self) -> None:
        """Nothing but the end may follow: the answer is complete, even at its last token."""
        if self.constraint is not None and self.constraint.complete and not self._forced:
            self.finished = "stop"

    def _score(self, logits: Row, token: int) -> TokenLogprob | None:
        if self._top is None:
            return None
        return logprob(logits, token, self._top, self._vocabulary.token_bytes)

    def _count_predicted(self, agreed: int) -> None:
        self.accepted += min(agreed, self.predicted)
        self.rejected += max(0, self.predicted - agreed)
        self.predicted = 0


def _ends(request: GenerationRequest, vocabulary: Vocabulary) -> frozenset[int]:
    """The tokens that end an answer."""
    own = frozenset() if request.ending.ignore_eos else vocabulary.eos
    return own | frozenset(request.ending.stop_tokens)


def _falling(tokens: list[int]) -> list[Guess]:
    """Guesses at a text that must come, whose spelling grows less likely with every token."""
    return [(token, LIKELY ** (at + 1)) for at, token in enumerate(tokens)]


def _common(left: list[int], right: list[int]) -> int:
    """Length of the common beginning."""
    for at, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return at
    return min(len(left), len(right))
