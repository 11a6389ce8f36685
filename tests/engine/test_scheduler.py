"""The scheduler, step by step and without its thread, against the slow reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provider.engine.checkpoint import Checkpoint, load
from provider.engine.engine import Engine
from provider.engine.job import Job
from provider.engine.limits import Limits
from provider.engine.request import Done, Finished, GenerationRequest, Piece, Sampling
from provider.errors import ServerError
from provider.protocol.schema import compile, regex
from tests.engine.one_by_one import Expected, complete
from tests.engine.serving import Client

TEXTS = ["거실은 남향이고 채광이 좋습니다. ", "The living room faces south. ", '{"rooms":[', "2024"]
LONG = tuple(range(6, 406))
CONSTRAINTS = [
    None,
    None,
    regex("[가-힣 ]{2,5}[.]"),
    compile({"enum": ["거실은 남향", "거실은 북향", "The kitchen"]}),
]


@pytest.fixture(scope="module")
def checkpoint(exaone_folder: Path) -> Checkpoint:
    loaded = load(exaone_folder, device="cpu", dtype="fp32", progress=False)
    loaded.model.double()
    return loaded


@pytest.fixture(scope="module")
def alone(checkpoint: Checkpoint) -> Callable[[GenerationRequest, int], Expected]:
    vocabulary = Engine(checkpoint).vocabulary

    @cache
    def expect(request: GenerationRequest, index: int) -> Expected:
        return complete(checkpoint.model, vocabulary, request, index)

    return expect


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[str], dict[str, Any]]:
    texts = draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=6))
    fields = {
        "sampling": Sampling(
            temperature=draw(st.sampled_from([0.0, 0.0, 1.0])),
            top_p=draw(st.sampled_from([1.0, 0.8])),
            seed=draw(st.integers(0, 3)),
            frequency_penalty=draw(st.sampled_from([0.0, 1.0])),
            logprobs=draw(st.sampled_from([None, None, 1])),
        ),
        "max_tokens": draw(st.sampled_from([1, 3, 10])),
        "n": draw(st.sampled_from([1, 1, 2])),
        "stop": draw(st.sampled_from([(), ("the",), ("a", "은")])),
        "constraint": draw(st.sampled_from(CONSTRAINTS)),
    }
    return texts, fields


arrivals = st.lists(
    st.tuples(requests(), st.integers(0, 4), st.sampled_from([None, None, None, 1, 3])),
    min_size=1,
    max_size=8,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    arrivals=arrivals,
    max_batch=st.sampled_from([1, 3, 16]),
    step_tokens=st.sampled_from([8, 40, 256]),
    tokens=st.sampled_from([512, 1100, 8192]),
    drafts=st.booleans(),
    prefix_share=st.sampled_from([0.0, 0.5]),
)
def test_any_traffic_gives_what_each_request_gives_alone(
    checkpoint: Checkpoint,
    alone: Callable[[GenerationRequest, int], Expected],
    arrivals: Any,
    max_batch: int,
    step_tokens: int,
    tokens: int,
    drafts: bool,
    prefix_share: float,
) -> None:
    weights = sum(p.numel() * p.element_size() for p in checkpoint.model.parameters())
    engine = Engine(
        checkpoint,
        Limits(
            max_batch=max_batch,
            step_tokens=step_tokens,
            memory=weights + tokens * 3 * 2 * 2 * 16 * 8,
            drafts=drafts,
            prefix_share=prefix_share,
        ),
    )
    scheduler = engine.scheduler()
    running: list[tuple[GenerationRequest, Client, Job, int | None]] = []
    for (texts, fields), pause, cancel in arrivals:
        prompt = tuple(checkpoint.tokenizer.encode("".join(texts)))
        request = GenerationRequest(prompt, **fields)
        client = Client()
        job = engine.job(request, client)
        scheduler.add(job)
        running.append((request, client, job, cancel))
        for _ in range(pause):
            scheduler.step()
            cancel_due(running)
    for _ in range(2000):
        if scheduler.idle:
            break
        scheduler.step()
        cancel_due(running)
    assert scheduler.idle
    for request, client, job, cancel in running:
        check(request, client, job, cancel, alone)
    scheduler.space.drop_prefixes()
    assert scheduler.space.tokens == 0


def cancel_due(running: list[tuple[GenerationRequest, Client, Job, int | None]]) -> None:
    for _, client, job, cancel in running:
        if cancel is not None and len(client.events) >= cancel:
            job.closed = True


def check(
    request: GenerationRequest, client: Client, job: Job, cancel: int | None, alone: Any
) -> None:
    """A finished request gave all of its answers, a cancelled one a beginning of them."""
    for index in range(request.n):
        expected = alone(request, index)
        text = client.text(index)
        if client.over.is_set():
            assert (text, client.reason(index)) == (expected.text, expected.reason)
        else:
            assert cancel is not None
            assert expected.text.startswith(text)
    if client.over.is_set():
        assert client.usage.completion == sum(
            len(alone(request, index).tokens) for index in range(request.n)
        )
        kinds = [type(event) for event in client.events]
        assert kinds.count(Done) == 1
        assert kinds.count(Finished) == request.n
        assert kinds[-1] is Done


def prepared(checkpoint: Checkpoint, **limits: Any) -> Any:
    engine = Engine(checkpoint, Limits(**limits))
    return engine, engine.scheduler()


def test_a_short_prompt_overtakes_a_long_one(checkpoint: Checkpoint) -> None:
    engine, scheduler = prepared(checkpoint, step_tokens=32)
    long, short = Client(), Client()
    encode = checkpoint.tokenizer.encode
    scheduler.add(engine.job(GenerationRequest(LONG, max_tokens=2), long))
    scheduler.step()
    scheduler.add(engine.job(GenerationRequest(tuple(encode("2024")), max_tokens=2), short))
    for _ in range(3):
        scheduler.step()
    assert short.over.is_set()
    assert not long.events
    while not scheduler.idle:
        scheduler.step()
    assert long.over.is_set()


def test_a_long_prompt_never_stops_the_others(checkpoint: Checkpoint) -> None:
    """While a prompt is read in, running answers still get a token in every step."""
    engine, scheduler = prepared(checkpoint, step_tokens=32, drafts=False)
    client = Client()
    encode = checkpoint.tokenizer.encode
    quick = GenerationRequest(tuple(encode("2024")), Sampling(seed=1, logprobs=0), max_tokens=40)
    scheduler.add(engine.job(quick, client))
    scheduler.step()
    scheduler.add(engine.job(GenerationRequest(LONG, max_tokens=2), Client()))
    before = len(client.logprobs)
    for _ in range(8):
        scheduler.step()
    assert len(client.logprobs) >= before + 7


def test_a_short_beginning_that_several_prompts_share_is_computed_once(
    checkpoint: Checkpoint,
) -> None:
    """Twenty tokens, as of a short system prompt, of requests that arrive together."""
    engine, scheduler = prepared(checkpoint, drafts=False)
    clients = [Client() for _ in range(4)]
    for number, client in enumerate(clients):
        own = tuple(range(100 * number + 50, 100 * number + 80))
        request = GenerationRequest(LONG[:20] + own, Sampling(0), max_tokens=2)
        scheduler.add(engine.job(request, client))
    while not scheduler.idle:
        scheduler.step()
    assert all(client.over.is_set() for client in clients)
    assert engine._stats.prefilled_tokens == 20 + 4 * 30
    assert [client.usage.cached for client in clients] == [0, 20, 20, 20]


def test_a_step_that_fails_for_one_row_is_repeated_for_each(
    checkpoint: Checkpoint, alone: Callable[[GenerationRequest, int], Expected]
) -> None:
    engine, scheduler = prepared(checkpoint)
    healthy = engine._runner.forward
    bad = checkpoint.tokenizer.encode("2024")[0]

    class Broken:
        narrows = False

        def forward(self, step: Any) -> Any:
            if bad in step.tokens:
                raise RuntimeError("an index out of range")
            return healthy(step)

    scheduler._runner = Broken()
    good = GenerationRequest(tuple(checkpoint.tokenizer.encode("거실은")), Sampling(0.0), 6)
    ill = GenerationRequest(tuple(checkpoint.tokenizer.encode("2024")), Sampling(0.0), 6)
    clients = [Client(), Client()]
    for request, client in zip((good, ill), clients, strict=True):
        scheduler.add(engine.job(request, client))
    while not scheduler.idle:
        scheduler.step()
    assert clients[0].text() == alone(good, 0).text
    assert isinstance(clients[1].error, ServerError)


def test_pieces_are_never_empty(checkpoint: Checkpoint) -> None:
    engine, scheduler = prepared(checkpoint)
    client = Client()
    request = GenerationRequest(tuple(checkpoint.tokenizer.encode("거실")), max_tokens=30)
    scheduler.add(engine.job(request, client))
    while not scheduler.idle:
        scheduler.step()
    assert all(e.text or e.logprobs for e in client.events if isinstance(e, Piece))


@pytest.mark.slow
def test_ten_thousand_requests_leave_nothing_behind(checkpoint: Checkpoint) -> None:
    import gc

    engine, scheduler = prepared(checkpoint, prefix_share=0.1)
    prompt = tuple(checkpoint.tokenizer.encode("거실은 남향이고"))
    objects = []
    for round_ in range(10):
        for number in range(1000):
            request = GenerationRequest(
                (*prompt, 6 + number % 400), Sampling(seed=number), max_tokens=2
            )
            client = Client(cancel_after=1 if number % 7 == 0 else None)
            scheduler.add(engine.job(request, client))
        while not scheduler.idle:
            scheduler.step()
        gc.collect()
        objects.append(len(gc.get_objects()))
        assert round_ < 2 or objects[-1] <= objects[1] + 200
    scheduler.space.drop_prefixes()
    assert scheduler.space.tokens == 0
