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

from torch import Tensor

from provider.engine.answer import Answer
from provider.engine.attention import Segment
from provider.engine.constraint import Blocks
from provider.engine.costs import CostModel, allot
from provider.engine.draws import Draws, Rows, rows_of
from provider.engine.habits import History
from provider.engine.job import Job
from provider.engine.prefix import SHORTEST
from provider.engine.runner import Runner, Step
from provider.engine.space import Space
from provider.engine.stats import Stats
from provider.errors import ApiError, ServerError

logger = logging.getLogger(__name__)

SHORT = 64
"""Pending tokens up to which an answer goes into every step whole."""

LONE_FAILURES = 3
"""Steps of a single answer that may fail one after the other before the engine is given up."""

Chosen = list[tuple[Answer, int]]
"""Answers of a step, each with how many of its pending tokens are fed."""


class Scheduler:
    """Continuous batching over one runner and one cache.

    An answer waits for a beginning that another one is computing if that saves a sixteenth of a
    step: a step of prompts takes as long as its tokens on a CPU, hardly longer on a GPU.
    """

    def __init__(
        self, runner: Runner, space: Space, stats: Stats, *, max_batch: int, step_tokens: int
    ) -> None:
        self.space = space
        self._runner = runner
        self._stats = stats
        self._max_batch = max_batch
        self._step_tokens = step_tokens
        self._worth = max(SHORTEST, min(step_tokens // 16, 2 * SHORTEST))
        self._waiting: deque[Answer] = deque()
        self._running: list[Answer] = []
        self._history = History()
        self._costs = CostModel()
        self._lone_failures = 0

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._running

    def add(self, job: Job) -> None:
        """Queues all answers of a request."""
        for answer in job.answers:
            try:
                answer.start()
            except ApiError as error:
                self._fail(job, error)
                return
            self._stats.generated_tokens += answer.generated
            self._stats.forced_tokens += answer.forced
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
        """Lets go of what was computed or recorded for an adapter that has gone."""
        self.space.forget(adapter_key)
        self._runner.forget(adapter_key)

    def close(self, error: ApiError) -> None:
        """Ends every request with `error`."""
        for answer in [*self._running, *self._waiting]:
            answer.job.deliver(error)
        self._running.clear()
        self._waiting.clear()

    def _admit(self) -> None:
        passed: list[Answer] = []
        while self._waiting and len(self._running) < self._max_batch:
            answer = self._waiting.popleft()
            if answer.finished is not None:
                answer.emit()
            elif self.space.soon_shared(answer, self._running, self._worth):
                passed.append(answer)
            elif self.space.place(answer, self._running):
                self._count_cached(answer)
                self._running.append(answer)
            else:
                passed.append(answer)
                break
        self._waiting.extendleft(reversed(passed))

    def _count_cached(self, answer: Answer) -> None:
        if answer.index == 0 and not answer.resumed:
            # What a grammar is certain of stands behind the prompt, and may be in the cache, too.
            answer.job.cached = min(answer.computed, answer.prompt)
            self._stats.cached_tokens += answer.job.cached

    def _choose(self) -> Chosen:
        """Who takes part in the next step with how many pending tokens."""
        chosen: Chosen = [(a, a.pending) for a in self._running if a.pending <= SHORT]
        self._draft(chosen)
        long = sorted((a for a in self._running if a.pending > SHORT), key=lambda a: a.pending)
        left = max(self._step_tokens - sum(count for _, count in chosen), len(long))
        for number, answer in enumerate(long):
            count = min(answer.pending, left // (len(long) - number))
            left -= count
            chosen.append((answer, count))
        for answer, count in chosen:
            self._reserve(answer, answer.computed + count + len(answer.drafts))
        chosen = [(a, n) for a, n in chosen if a.slot is not None]
        chosen.sort(key=lambda item: item[0].adapter_key)
        return chosen

    def _draft(self, chosen: Chosen) -> None:
        """Gives the answers of a step those guesses that are worth what they cost."""
        tokens = sum(count for _, count in chosen)
        floor = self._costs.floor(tokens)
        chains = [a.guess(floor, self._history.habits(a.format)) for a, _ in chosen]
        tokens += sum(len(answer.drafts) for answer, _ in chosen)
        counts = allot(chains, tokens, self._costs)
        for (answer, _), count in zip(chosen, counts, strict=True):
            answer.draft(count)

    def _reserve(self, answer: Answer, tokens: int) -> None:
        """Makes the answer's slot large enough; the youngest answers give way if they must."""
        while answer.slot is not None and not self.space.grow(answer, tokens):
            youngest = self._running.pop()
            self._stats.preemptions += 1
            self.space.release(youngest)
            youngest.resumed = True
            self._waiting.appendleft(youngest)

    def _run(self, chosen: Chosen) -> None:
        drawing = [answer for answer, count in chosen if count == answer.pending]
        started, spent = time.perf_counter(), time.thread_time()
        before = sum(answer.generated for answer, _ in chosen)
        forced = sum(answer.forced for answer, _ in chosen)
        step = pack(chosen)
        # Counted before anything can fail: an answer that is ended in between forgets its tokens
        # and drafts, and its rows must not become its neighbour's.
        rows = [1 + len(a.drafts) if count == a.pending else 0 for a, count in chosen]
        if self._runner.narrows:
            step.outputs = [blocks for answer in drawing for blocks in self._outputs(answer)]
        logits = self._forward(step, chosen)
        if logits is None:
            return
        drawn_rows = rows_of(logits, [plan for answer in drawing for plan in answer.plans()])
        self._prepare(drawing)
        self._take(chosen, rows, drawn_rows)
        drawn = sum(answer.generated for answer, _ in chosen) - before
        self._stats.forced_tokens += sum(answer.forced for answer, _ in chosen) - forced
        seconds = time.perf_counter() - started
        self._stats.saw_step(len(drawing), drawn, seconds)
        if len(drawing) == len(chosen) and len(step.tokens) <= 2 * SHORT and drawn:
            if logits.device.type == "cpu":  # what others do on it is no part of the cost
                seconds = time.thread_time() - spent
            self._costs.saw(len(step.tokens), drawn, seconds)
        for answer in drawing:
            answer.emit()  # what a client is told has been counted before

    def _outputs(self, answer: Answer) -> list[Blocks | None]:
        """The logits that an answer will read; a constraint that fails ends its request alone."""
        rows = 1 + len(answer.drafts)
        try:
            return answer.outputs()
        except ApiError as error:
            self._fail(answer.job, error)
        except Exception:
            logger.exception("a constraint failed")
            self._fail(answer.job, ServerError("The engine failed on this request."))
        return [None] * rows

    def _forward(self, step: Step, chosen: Chosen) -> Tensor | None:
        """The step's logits. If it fails, its answers run one by one, and one that fails alone
        is ended; None then."""
        try:
            logits = self._runner.forward(step)
        except Exception:
            if len(chosen) > 1:
                for item in chosen:
                    self._run([item])
                return None
            self._lone_failures += 1
            if self._lone_failures >= LONE_FAILURES:
                raise
            logger.exception("a step failed for its only answer")
            self._fail(chosen[0][0].job, ServerError("The engine failed on this request."))
            return None
        self._lone_failures = 0
        return logits

    def _prepare(self, drawing: list[Answer]) -> None:
        """Computes the constraints' masks; a GPU is still busy with the forward pass meanwhile."""
        for answer in drawing:
            try:
                answer.prepare()
            except ApiError as error:
                self._fail(answer.job, error)
            except Exception:
                logger.exception("a constraint failed")
                self._fail(answer.job, ServerError("The engine failed on this request."))

    def _take(self, chosen: Chosen, rows: list[int], logits: Tensor | Draws) -> None:
        """Gives every answer its rows of the logits; one without rows is still being read in."""
        row = 0
        for (answer, count), own in zip(chosen, rows, strict=True):
            if not answer.job.closed:
                prompt_left = answer.prompt - answer.computed
                self._stats.prefilled_tokens += max(0, min(count, prompt_left))
                if own:
                    self._advance(answer, logits[row : row + own])
                else:
                    answer.computed += count
            row += own
        self._running = [answer for answer in self._running if answer.slot is not None]

    def _advance(self, answer: Answer, logits: Rows) -> None:
        try:
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

    def _retire(self, answer: Answer) -> None:
        self._stats.finished += 1
        answer.learn(self._history.habits(answer.format))
        self.space.retire(answer)

    def _fail(self, job: Job, error: ApiError) -> None:
        """Ends one request; its slots are given back, not kept."""
        self._stats.failed += 1
        job.deliver(error)
        for answer in job.answers:
            self.space.release(answer)
        self._running = [answer for answer in self._running if answer.slot is not None]

    def _reap(self) -> None:
        """Lets go of answers whose request has been cancelled or has failed."""
        for answer in self._running:
            if answer.job.closed:
                self.space.retire(answer)
        self._running = [answer for answer in self._running if answer.slot is not None]
        if any(answer.job.closed for answer in self._waiting):
            self._waiting = deque(a for a in self._waiting if not a.job.closed)

    def _measure(self) -> None:
        stats = self._stats
        stats.running, stats.waiting = len(self._running), len(self._waiting)
        stats.kv_tokens, stats.kv_bytes = self.space.tokens, self.space.bytes
        stats.prefixes = self.space.prefixes


def pack(chosen: Chosen) -> Step:
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
