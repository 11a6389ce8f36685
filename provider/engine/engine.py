"""The local engine: requests of many threads, one model, one engine thread.

    engine = Engine(checkpoint, Limits(memory=5 << 30))
    engine.start()
    ticket = engine.submit(request, on_event)        # from any thread
    async for event in engine.stream(request): ...   # the same for asyncio

`submit` refuses at once what cannot be served (429 when the queue is full, 503 while the engine is
down, 400 for a prompt beyond the context). Events are delivered in the engine's thread. If that
thread fails, every request ends with 503 and a fresh one is started.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

from provider.engine.adapters import AdapterStore, read_pairs
from provider.engine.answer import Answer
from provider.engine.cache import KVCache
from provider.engine.constraint import ConstraintState, GrammarCache
from provider.engine.device import make_current, works
from provider.engine.graph_start import graphs_for
from provider.engine.job import Job, OnEvent
from provider.engine.limits import Limits
from provider.engine.memory import cache_shape
from provider.engine.prefix import PrefixCache
from provider.engine.request import Done, Event, GenerationRequest
from provider.engine.runners import own_kernels, runner_of
from provider.engine.scheduler import Scheduler
from provider.engine.space import Space
from provider.engine.stats import Stats
from provider.engine.vocabulary import Vocabulary
from provider.errors import (
    ApiError,
    ContextTooLong,
    InvalidRequest,
    RateLimited,
    Unavailable,
)

if TYPE_CHECKING:
    from provider.engine.checkpoint import Checkpoint

logger = logging.getLogger(__name__)


class Ticket:
    """One submitted request."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self._engine = engine
        self._job = job

    def cancel(self) -> None:
        """Ends the request within one step; no further event is delivered. Idempotent."""
        self._engine._cancel(self._job)


class Engine:
    """Serves one checkpoint. All public methods may be called from any thread."""

    def __init__(self, checkpoint: Checkpoint, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._model = checkpoint.model
        self._runner = runner_of(checkpoint.model, native=self.limits.native)
        self._kernels = own_kernels(checkpoint.model) if self.limits.native else None
        self._graphs = graphs_for(checkpoint.model, self._runner, self.limits)
        if self._graphs is None:
            self._shape = cache_shape(checkpoint.model, self.limits, self._runner.weight_bytes)
        else:
            self._runner, self._shape = self._graphs, self._graphs.shape
        self.vocabulary = Vocabulary(checkpoint.tokenizer, _logits(checkpoint.model))
        self._grammars: GrammarCache | None = None
        self._adapters = AdapterStore(
            lambda path: read_pairs(path, checkpoint, self._runner.adapters_on),
            self.limits.max_adapters,
            self._runner.attach,
            self._forget,
        )
        self._stats = Stats(kv_budget=self._shape.budget)
        self._lock = threading.Condition()
        self._inbox: deque[Callable[[Scheduler], None]] = deque()
        self._open: set[Job] = set()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._alive = False

    @property
    def alive(self) -> bool:
        """Whether requests are being served."""
        return self._alive

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._shape.capacity

    def start(self) -> None:
        """Starts the engine's thread. Idempotent."""
        with self._lock:
            if self._thread is not None:
                return
            self._closing = False
            self._alive = True
            self._thread = threading.Thread(target=self._live, name="sllm-engine", daemon=True)
            self._thread.start()
            threading.Thread(target=self._warm_up, name="sllm-warm-up", daemon=True).start()

    def close(self) -> None:
        """Ends the thread; requests under way fail with 503."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._closing, self._alive = True, False
            self._lock.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def submit(self, request: GenerationRequest, on_event: OnEvent) -> Ticket:
        """Queues a request. Raises ApiError if it is refused at once."""
        job = self.job(request, on_event)
        with self._lock:
            self._refuse_if_unable()
            self._stats.requests += 1
            self._stats.prompt_tokens += len(request.prompt)
            self._open.add(job)
            self._inbox.append(lambda scheduler: scheduler.add(job))
            self._lock.notify_all()
        return Ticket(self, job)

    def job(self, request: GenerationRequest, on_event: OnEvent) -> Job:
        """A request checked, with its adapter and its constraint at hand, not yet queued."""
        self._check(request)
        job = Job(request, on_event)
        if request.adapter is not None:
            job.adapter = self._adapters.get(request.adapter)
        job.answers = [self._answer(job, index) for index in range(request.n)]
        return job

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """The request's events; raises ApiError. Closing the iterator cancels the request."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | ApiError] = asyncio.Queue()

        def deliver(event: Event | ApiError) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        if self._at_hand(request):
            ticket = self.submit(request, deliver)
        else:
            ticket = await self._submit_apart(request, deliver)
        try:
            while True:
                event = await events.get()
                if isinstance(event, ApiError):
                    raise event
                yield event
                if isinstance(event, Done):
                    return
        finally:
            ticket.cancel()

    async def _submit_apart(
        self, request: GenerationRequest, deliver: Callable[[Event | ApiError], None]
    ) -> Ticket:
        """Submit in a thread. A caller who leaves meanwhile cancels what is submitted after all."""
        submitting = asyncio.ensure_future(asyncio.to_thread(self.submit, request, deliver))
        try:
            return await asyncio.shield(submitting)
        except asyncio.CancelledError:
            submitting.add_done_callback(_cancel_ticket)
            raise

    def load_adapter(self, name: str, path: Path) -> None:
        """Reads a LoRA adapter and serves it as `name`, in place of one of that name.

        Raises ConfigurationError with every mismatch; then the name is as it was. Requests under
        way keep the weights that they began with.
        """
        self._adapters.load(name, path)

    def unload_adapter(self, name: str) -> None:
        """Forgets an adapter; requests under way keep it. Raises ModelNotFound."""
        self._adapters.unload(name)

    def adapters(self) -> list[str]:
        """Names of the adapters that requests may ask for."""
        return self._adapters.names()

    def stats(self) -> dict[str, float]:
        """Counters and gauges by name, see `Stats`."""
        with self._lock:
            self._open = {job for job in self._open if not job.closed}
            waiting = len(self._inbox)
        values = self._stats.snapshot()
        values["waiting"] += waiting
        values["adapters"] = float(self._adapters.resident)
        values["alive"] = float(self._alive)
        if self._graphs is not None:
            values |= self._graphs.figures()
        return values

    def _forget(self, adapter_key: int) -> None:
        """Nothing computed under these weights will be asked for again."""
        with self._lock:
            self._open = {job for job in self._open if not job.closed}  # they hold the weights
            self._inbox.append(lambda scheduler: scheduler.forget(adapter_key))
            self._lock.notify_all()

    def _at_hand(self, request: GenerationRequest) -> bool:
        """Whether `submit` has nothing to read or compile that would keep its caller waiting."""
        if request.adapter is not None and not self._adapters.holds(request.adapter):
            return request.adapter not in self._adapters.names()
        if request.constraint is None:
            return len(request.prompt) <= 2048
        return self._grammars is not None and self._grammars.holds(request.constraint)

    def _cancel(self, job: Job) -> None:
        with self._lock:
            if not job.closed:
                job.closed = True
                self._stats.cancelled += 1
            self._open.discard(job)
            self._lock.notify_all()

    def _check(self, request: GenerationRequest) -> None:
        if not request.prompt:
            raise InvalidRequest("The prompt is empty.", param="messages")
        given = request.prompt + request.given
        if not all(0 <= token < self.vocabulary.size for token in given):
            raise InvalidRequest("The prompt holds a token id beyond the vocabulary.")
        if (length := len(request.prompt) + len(request.given)) >= self.context_length:
            raise ContextTooLong.of(self.context_length, length)
        if request.max_tokens < 1 or request.n < 1:
            raise InvalidRequest("max_tokens and n must be at least 1.", param="max_tokens")

    def _refuse_if_unable(self) -> None:
        if not self._alive:
            raise Unavailable("The local engine is not running.", retry_after=2)
        if len(self._open) >= self.limits.queue + self.limits.max_batch:
            self._open = {job for job in self._open if not job.closed}
        if len(self._open) >= self.limits.queue + self.limits.max_batch:
            self._stats.refused += 1
            raise RateLimited(
                f"The local engine has {len(self._open)} requests under way, which is its limit "
                "(LOCAL_LLM_MAX_BATCH and LOCAL_LLM_QUEUE); try again in a moment.",
                retry_after=self._wait(),
            )

    def _wait(self) -> float:
        """Seconds until a place in the queue should be free, from the present speed."""
        done = max(1, self._stats.finished)
        average = self._stats.generated_tokens / done
        speed = max(1.0, self._stats.tokens_per_second)
        return min(60.0, average / speed)

    def _answer(self, job: Job, index: int) -> Answer:
        request = job.request
        constraint = None
        if request.constraint is not None:
            if self._grammars is None:
                self._grammars = GrammarCache(self.vocabulary.grammar)
            matcher = self._grammars.matcher(request.constraint)
            constraint = ConstraintState(matcher, self.vocabulary.grammar)
        room = self.context_length - len(request.prompt) - len(request.given)
        return Answer(
            job,
            index,
            self.vocabulary,
            constraint,
            min(request.max_tokens, room),
            force=self.limits.forced_tokens,
            draft=self.limits.drafts,
            loop_tokens=self.limits.loop_tokens,
            kernels=self._kernels,
        )

    def scheduler(self) -> Scheduler:
        """A scheduler with an empty cache of this engine's size."""
        cache = KVCache(self._shape, None if self._graphs is None else self._graphs.arena.clear())
        kept = PrefixCache(cache, int(self._shape.budget * self.limits.prefix_share))
        cuda = self._shape.device.type == "cuda"
        return Scheduler(
            self._runner,
            Space(cache, kept),
            self._stats,
            max_batch=self.limits.max_batch,
            step_tokens=self.limits.step_tokens or (2048 if cuda else 256),
        )

    def _warm_up(self) -> None:
        """Makes what the first constrained request would otherwise wait for."""
        _ = self.vocabulary.token_bytes, self.vocabulary.grammar

    def _live(self) -> None:
        """The engine's thread: serves, and after a failure starts over with an empty cache."""
        make_current(self._shape.device)
        while not self._closing:
            scheduler = self.scheduler()
            error: ApiError = Unavailable("The local engine was shut down.", retry_after=2)
            try:
                self._alive = not self._closing
                self._serve(scheduler)
            except Exception:
                logger.exception("the engine failed and starts over")
                self._stats.deaths += 1
                error = Unavailable("The local engine failed; it starts over.", retry_after=2)
            self._fail_all(scheduler, error)
            if not self._closing and not works(self._shape.device):
                logger.critical(
                    "%s does not compute any more, which only a new process mends; restart it.",
                    self._shape.device,
                )
                return

    def _serve(self, scheduler: Scheduler) -> None:
        while True:
            with self._lock:
                while not self._closing and not self._inbox and scheduler.idle:
                    self._lock.wait()
                if self._closing:
                    return
                actions = list(self._inbox)
                self._inbox.clear()
            for action in actions:
                action(scheduler)
            scheduler.step()

    def _fail_all(self, scheduler: Scheduler, error: ApiError) -> None:
        with self._lock:
            self._alive = False
            self._inbox.clear()
            jobs, self._open = self._open, set()
        scheduler.close(error)
        for job in jobs:
            job.deliver(error)


def _logits(model: PreTrainedModel) -> int:
    head: Any = model.get_output_embeddings()
    return int(head.weight.shape[0])


def _cancel_ticket(submitted: asyncio.Future[Ticket]) -> None:
    if not submitted.cancelled() and submitted.exception() is None:
        submitted.result().cancel()
