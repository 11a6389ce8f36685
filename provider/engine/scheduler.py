"""Which tokens of which answers go into the next packed step, and what comes of it.

One step feeds the pending tokens of every running answer: a part of a prompt, the newest token,
a run of tokens that a grammar forced, and drafts. Answers that only lack their newest tokens always
take part; prompts share what is left of the step's token budget evenly, so a long prompt delays
nobody by more than one step and short prompts overtake long ones.

Everything here runs in the engine's thread. An error of one answer ends its request only.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from provider.engine.answer import Answer, Job
from provider.engine.attention import Segment
from provider.engine.cache import KVCache, Slot
from provider.engine.drafts import CostModel, History
from provider.engine.prefix import SHORTEST, PrefixCache
from provider.engine.runner import Runner, Step
from provider.engine.stats import Stats
from provider.errors import ApiError, ServerError

logger = logging.getLogger(__name__)

SHORT = 64
"""Pending tokens up to which an answer goes into every step whole."""


class Scheduler:
    """Continuous batching over one runner and one cache."""

    def __init__(
        self,
        runner: Runner,
        cache: KVCache,
        prefixes: PrefixCache,
        stats: Stats,
        *,
        max_batch: int,
        step_tokens: int,
    ) -> None:
        self._runner = runner
        self._cache = cache
        self._prefixes = prefixes
        self._stats = stats
        self._max_batch = max_batch
        self._step_tokens = step_tokens
        self._waiting: deque[Answer] = deque()
        self._running: list[Answer] = []
        self._history = History()
        self._costs = CostModel()
        self._masks = ThreadPoolExecutor(1, thread_name_prefix="sllm-mask")

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._running

    def add(self, job: Job) -> None:
        """Queues all answers of a request."""
        for answer in job.answers:
            try:
                answer.start()
            except ApiError as error:
                job.deliver(error)
                self._stats.failed += 1
                return
        self._waiting.extend(job.answers)

    def step(self) -> None:
        """Admits what fits, runs one forward pass and delivers what it gave."""
        self._reap()
        self._admit()
        chosen = self._choose()
        if chosen:
            self._run(chosen)
        self._measure()

    def forget(self, adapter_key: int) -> None:
        """Drops kept prefixes of an adapter that has gone."""
        self._prefixes.forget(adapter_key)

    def close(self, error: ApiError) -> None:
        """Ends every request with `error`."""
        for answer in [*self._running, *self._waiting]:
            answer.job.deliver(error)
        self._running.clear()
        self._waiting.clear()
        self._masks.shutdown(wait=False)

    # admission

    def _admit(self) -> None:
        passed: list[Answer] = []
        while self._waiting and len(self._running) < self._max_batch:
            answer = self._waiting.popleft()
            if answer.finished is not None:
                answer.emit()
            elif self._soon_shared(answer):
                passed.append(answer)
            elif self._place(answer):
                self._running.append(answer)
            else:
                passed.append(answer)
                break
        self._waiting.extendleft(reversed(passed))

    def _place(self, answer: Answer) -> bool:
        """Gives an answer a slot, with what is already known of its tokens in it."""
        self._source(answer)
        slot = self._allocate(len(answer.tokens) + 1)
        if slot is None:
            return False
        answer.slot = slot
        source, length = self._source(answer)
        length = min(length, len(answer.tokens) - 1)
        if source is not None and length >= SHORTEST:
            slot.copy_from(source, length)
            answer.computed = length
        if answer.index == 0 and not answer.generated:
            answer.job.cached = answer.computed
            self._stats.cached_tokens += answer.computed
        return True

    def _source(self, answer: Answer) -> tuple[Slot | None, int]:
        """The slot, of a finished or a running answer, that shares most with this answer."""
        key = answer.adapter_key
        kept = self._prefixes.find(answer.tokens, key)
        best, length = kept if kept is not None else (None, 0)
        for other in self._running:
            if other.adapter_key == key and other.slot is not None:
                shared = min(other.shared_prompt(answer), other.computed)
                if shared > length:
                    best, length = other.slot, shared
        return best, length

    def _soon_shared(self, answer: Answer) -> bool:
        """Whether a running answer is just computing a beginning that this one can then copy."""
        rivals = [
            other
            for other in self._running
            if other.prefilling and other.adapter_key == answer.adapter_key
        ]
        if not rivals:
            return False
        coming = max(other.shared_prompt(answer) for other in rivals)
        return coming >= self._source(answer)[1] + 2 * SHORTEST

    def _allocate(self, tokens: int) -> Slot | None:
        """A slot, at the cost of kept prefixes if need be."""
        while (slot := self._cache.allocate(tokens)) is None:
            if not self._prefixes.evict():
                return None
        return slot

    # one step

    def _choose(self) -> list[tuple[Answer, int]]:
        """Who takes part in the next step with how many pending tokens."""
        short = [(a, a.pending) for a in self._running if a.pending <= SHORT]
        for answer, _ in short:
            key = answer.format
            history = None if key is None else self._history.lookup(key)
            answer.draft(self._costs.threshold, history)
        long = sorted((a for a in self._running if a.pending > SHORT), key=lambda a: a.pending)
        left = max(self._step_tokens - sum(count for _, count in short), len(long))
        chosen = short
        for number, answer in enumerate(long):
            count = min(answer.pending, left // (len(long) - number))
            left -= count
            chosen.append((answer, count))
        fitting = []
        for answer, count in chosen:
            if self._reserve(answer, answer.computed + count + len(answer.drafts)):
                fitting.append((answer, count))
        return [(a, n) for a, n in fitting if a.slot is not None]

    def _reserve(self, answer: Answer, tokens: int) -> bool:
        """Makes the answer's slot large enough; the youngest answers give way if they must."""
        if answer.slot is None:
            return False
        if answer.slot.capacity >= tokens:
            return True
        while (slot := self._allocate(tokens)) is None:
            youngest = self._running[-1]
            self._preempt(youngest)
            if youngest is answer:
                return False
        slot.copy_from(answer.slot, answer.computed)
        self._cache.free(answer.slot)
        answer.slot = slot
        return True

    def _preempt(self, answer: Answer) -> None:
        """Takes an answer's slot away; it starts over from its tokens when there is room."""
        self._stats.preemptions += 1
        self._running.remove(answer)
        if answer.slot is not None:
            self._cache.free(answer.slot)
        answer.slot, answer.computed, answer.drafts = None, 0, []
        self._waiting.appendleft(answer)

    def _run(self, chosen: list[tuple[Answer, int]]) -> None:
        drawing = [(a, n) for a, n in chosen if n == a.pending]
        masks = self._start_masks([a for a, _ in drawing])
        started = time.perf_counter()
        before = sum(a.generated for a, _ in chosen)
        chosen.sort(key=lambda item: item[0].adapter_key)
        step = pack(chosen)
        fed = len(step.tokens)
        logits = self._runner.forward(step)
        row = 0
        for answer, count in chosen:
            self._stats.prefilled_tokens += max(0, min(count, answer.prompt - answer.computed))
            if count < answer.pending:
                answer.computed += count
                continue
            rows = 1 + len(answer.drafts)
            self._advance(answer, logits[row : row + rows], masks.get(id(answer)))
            row += rows
        generated = sum(a.generated for a, _ in chosen) - before
        seconds = time.perf_counter() - started
        self._stats.saw_step(len(drawing), generated, seconds)
        if len(drawing) == len(chosen) and fed <= SHORT * 2 and generated:
            self._costs.saw(fed, generated, seconds)
        self._running = [a for a in self._running if a.slot is not None]

    def _start_masks(self, answers: list[Answer]) -> dict[int, Future[None]]:
        """Computes the constraints' masks while the forward pass runs."""
        return {
            id(a): self._masks.submit(a.constraint.compute_mask)
            for a in answers
            if a.constraint is not None and a.needs_mask
        }

    def _advance(self, answer: Answer, logits: Tensor, mask: Future[None] | None) -> None:
        try:
            if mask is not None:
                mask.result()
            if answer.job.closed:
                return
            self._stats.draft_tokens += len(answer.drafts)
            answer.advance(logits)
            self._stats.draft_accepted += answer.agreed
        except ApiError as error:
            self._fail(answer.job, error)
        except Exception:
            logger.exception("an answer failed")
            self._fail(answer.job, ServerError("The engine failed on this request."))
        else:
            if answer.finished is not None:
                self._retire(answer)
            answer.emit()
            if answer.finished is not None and answer.job.closed:
                self._stats.finished += 1

    def _fail(self, job: Job, error: ApiError) -> None:
        """Ends one request; its slots are given back, not kept."""
        self._stats.failed += 1
        job.deliver(error)
        for answer in job.answers:
            if answer.slot is not None:
                self._cache.free(answer.slot)
                answer.slot = None

    def _retire(self, answer: Answer) -> None:
        """Keeps what an answer has computed for those that begin alike."""
        if answer.slot is not None:
            if answer.finished is not None and answer.format is not None:
                self._history.add(answer.format, answer.tokens[answer.prompt :])
            slot, answer.slot = answer.slot, None
            self._prefixes.keep(answer.tokens[: answer.computed], slot, answer.adapter_key)

    def _reap(self) -> None:
        """Lets go of answers whose request has been cancelled or has failed."""
        for answer in self._running:
            if answer.job.closed:
                self._retire(answer)
        self._running = [a for a in self._running if a.slot is not None]
        if any(a.job.closed for a in self._waiting):
            self._waiting = deque(a for a in self._waiting if not a.job.closed)

    def _measure(self) -> None:
        stats = self._stats
        stats.running, stats.waiting = len(self._running), len(self._waiting)
        stats.kv_tokens, stats.kv_bytes = self._cache.allocated, self._cache.allocated_bytes
        stats.prefixes = len(self._prefixes)


def pack(chosen: list[tuple[Answer, int]]) -> Step:
    """The step that feeds `count` pending tokens of each answer, and drafts after the last."""
    step = Step()
    for answer, count in chosen:
        start, offset = answer.computed, len(step.tokens)
        fed = answer.tokens[start : start + count]
        if count == answer.pending:
            fed += answer.drafts
            step.wanted.extend(range(offset + count - 1, offset + len(fed)))
        step.tokens.extend(fed)
        step.positions.extend(range(start, start + len(fed)))
        if answer.slot is not None:
            step.segments.append(Segment(offset, len(fed), start, answer.slot))
        if answer.adapter is not None:
            if step.adapters and step.adapters[-1][0] is answer.adapter:
                offset = step.adapters.pop()[1]
            step.adapters.append((answer.adapter, offset, len(step.tokens)))
    return step
