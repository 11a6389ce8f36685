"""The engine as its callers see it: events, limits, cancellation, death."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from provider.engine.checkpoint import Checkpoint, load
from provider.engine.engine import Engine
from provider.engine.limits import Limits
from provider.engine.request import Done, Event, Finished, GenerationRequest, Piece, Sampling
from provider.engine.scheduler import Scheduler
from provider.errors import (
    ConfigurationError,
    ContextTooLong,
    InvalidRequest,
    RateLimited,
    Unavailable,
)
from tests.engine.one_by_one import complete, next_logits
from tests.engine.serving import Client, eventually, serve, submit

GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def checkpoint(exaone_folder: Path) -> Checkpoint:
    """In float64: a draw within rounding of a boundary would differ by batch in less."""
    loaded = load(exaone_folder, device="cpu", dtype="fp32", progress=False)
    loaded.model.double()
    return loaded


@pytest.fixture
def start(checkpoint: Checkpoint) -> Iterator[Callable[..., Engine]]:
    """`start(**limits)` gives a running engine that the test does not have to close."""
    engines = []

    def make(**limits: Any) -> Engine:
        engine = Engine(checkpoint, Limits(**limits))
        engine.start()
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()


def prompt(checkpoint: Checkpoint, text: str) -> tuple[int, ...]:
    return tuple(checkpoint.tokenizer.encode(text))


def ask(checkpoint: Checkpoint, text: str, **fields: Any) -> GenerationRequest:
    fields.setdefault("sampling", GREEDY)
    fields.setdefault("max_tokens", 16)
    return GenerationRequest(prompt(checkpoint, text), **fields)


def test_a_batch_gives_what_each_request_gives_alone(
    checkpoint: Checkpoint, start: Callable[..., Engine]
) -> None:
    engine = start(step_tokens=40)
    requests = [
        ask(checkpoint, "거실은 남향이고", max_tokens=24),
        ask(checkpoint, "당신은 친절한 " * 30, max_tokens=24),
        ask(checkpoint, "The living", sampling=Sampling(seed=3)),
        ask(checkpoint, "The living", sampling=Sampling(seed=3, top_p=0.6, temperature=1.7)),
        ask(
            checkpoint,
            "living room",
            sampling=Sampling(seed=4, presence_penalty=1.5, frequency_penalty=1.0),
        ),
        ask(checkpoint, "2024", sampling=Sampling(temperature=0, logit_bias=((70, 100.0),))),
    ]
    for request, client in zip(requests, serve(engine, requests), strict=True):
        expected = complete(checkpoint.model, engine.vocabulary, request)
        assert (client.text(), client.reason()) == (expected.text, expected.reason)
        assert client.usage.completion == len(expected.tokens)
        assert client.usage.prompt == len(request.prompt)


def test_stop_strings_end_the_answer_and_stay_hidden(
    checkpoint: Checkpoint, start: Callable[..., Engine]
) -> None:
    engine = start()
    full = ask(checkpoint, "The kitchen", max_tokens=40)
    text = serve(engine, [full])[0].text()
    stop = text[9:12]
    request = ask(checkpoint, "The kitchen", max_tokens=40, stop=("never", stop))
    client = serve(engine, [request])[0]
    assert client.text() == text[: text.index(stop)]
    assert client.reason() == "stop"


def test_answers_of_one_request_share_its_prompt_and_differ_by_seed(
    checkpoint: Checkpoint, start: Callable[..., Engine]
) -> None:
    engine = start(step_tokens=32)
    request = ask(checkpoint, "당신은 친절한 " * 20, sampling=Sampling(seed=11), n=4)
    client = serve(engine, [request])[0]
    texts = [client.text(index) for index in range(4)]
    expected = [
        complete(checkpoint.model, engine.vocabulary, request, index).text for index in range(4)
    ]
    assert texts == expected
    assert len(set(texts)) == 4
    assert client.usage.completion == 64
    assert engine.stats()["prefilled_tokens"] < 2 * len(request.prompt)


def test_logprobs_are_of_the_plain_distribution(
    checkpoint: Checkpoint, start: Callable[..., Engine]
) -> None:
    engine = start()
    sampling = Sampling(temperature=0.7, seed=1, presence_penalty=1.0, logprobs=3)
    request = ask(checkpoint, "The living room", sampling=sampling, max_tokens=12)
    client = serve(engine, [request])[0]
    expected = complete(checkpoint.model, engine.vocabulary, request)
    assert [score.token for score in client.logprobs] == list(expected.tokens)
    tokens = list(request.prompt)
    for score in client.logprobs:
        plain = torch.log_softmax(next_logits(checkpoint.model, tokens), -1)
        assert score.logprob == pytest.approx(float(plain[score.token]), abs=1e-4)
        assert [t for t, _, _ in score.top] == plain.topk(3).indices.tolist()
        assert score.data == engine.vocabulary.token_bytes[score.token]
        tokens.append(score.token)


def test_cancel_frees_the_row_and_silences_it(
    checkpoint: Checkpoint, start: Callable[..., Engine]
) -> None:
    engine = start()
    client = submit(engine, ask(checkpoint, "거실은", max_tokens=400), cancel_after=2)
    client.wait()
    serve(engine, [ask(checkpoint, "The", max_tokens=4)])
    assert len(client.events) == 2
    assert eventually(lambda: engine.stats()["running"] == 0)
    assert engine.stats()["cancelled"] == 1


def test_a_full_queue_is_refused_with_a_time_to_retry(
    checkpoint: Checkpoint, start: Callable[..., Engine]
) -> None:
    engine = start(max_batch=1, queue=1)
    clients = [submit(engine, ask(checkpoint, "거실", max_tokens=300)) for _ in range(2)]
    with pytest.raises(RateLimited, match="LOCAL_LLM_QUEUE") as refused:
        engine.submit(ask(checkpoint, "거실"), Client())
    assert int(refused.value.headers["retry-after"]) >= 1
    for client in clients:
        assert client.ticket is not None
        client.ticket.cancel()
    assert serve(engine, [ask(checkpoint, "거실")])[0].reason() == "length"


@pytest.mark.parametrize(
    ("tokens", "error"),
    [((), InvalidRequest), ((1, 512), InvalidRequest), ((7,) * 512, ContextTooLong)],
)
def test_a_prompt_that_cannot_work_is_refused_at_once(
    start: Callable[..., Engine], tokens: tuple[int, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        start().submit(GenerationRequest(tokens), Client())


def test_the_context_cuts_an_answer(checkpoint: Checkpoint, start: Callable[..., Engine]) -> None:
    engine = start(context_length=32)
    request = ask(checkpoint, "The living room", max_tokens=400)
    client = serve(engine, [request])[0]
    assert client.reason() == "length"
    assert client.usage.prompt + client.usage.completion == 32


def test_a_client_that_raises_harms_nobody(
    checkpoint: Checkpoint, start: Callable[..., Engine]
) -> None:
    engine = start()

    def broken(_: object) -> None:
        raise RuntimeError("the client's bug")

    engine.submit(ask(checkpoint, "거실"), broken)
    assert serve(engine, [ask(checkpoint, "The")])[0].reason() == "length"


def test_an_engine_that_dies_fails_its_requests_and_comes_back(
    checkpoint: Checkpoint, start: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start()
    healthy = Scheduler.step
    broken = threading.Event()

    def step(scheduler: Scheduler) -> None:
        if not broken.is_set():
            broken.set()
            raise MemoryError("no more")
        healthy(scheduler)

    monkeypatch.setattr(Scheduler, "step", step)
    client = submit(engine, ask(checkpoint, "거실")).wait()
    assert isinstance(client.error, Unavailable)
    assert eventually(lambda: engine.alive)
    assert serve(engine, [ask(checkpoint, "The")])[0].reason() == "length"
    assert engine.stats()["deaths"] == 1


def test_a_closed_engine_refuses_and_ends_what_was_under_way(
    checkpoint: Checkpoint, start: Callable[..., Engine]
) -> None:
    engine = start()
    client = submit(engine, ask(checkpoint, "거실", max_tokens=400))
    engine.close()
    assert isinstance(client.wait().error, Unavailable)
    assert not engine.alive
    with pytest.raises(Unavailable):
        engine.submit(ask(checkpoint, "거실"), Client())


async def test_the_async_stream_gives_the_same_and_closing_it_cancels(
    checkpoint: Checkpoint, start: Callable[..., Engine]
) -> None:
    engine = start()
    request = ask(checkpoint, "거실은 남향", max_tokens=20)
    events: list[Event] = [event async for event in engine.stream(request)]
    assert isinstance(events[-1], Done)
    assert isinstance(events[-2], Finished)
    text = "".join(event.text for event in events if isinstance(event, Piece))
    assert text == complete(checkpoint.model, engine.vocabulary, request).text
    stream = engine.stream(ask(checkpoint, "거실", max_tokens=400))
    await anext(stream)
    await stream.aclose()
    assert await asyncio.to_thread(eventually, lambda: engine.stats()["running"] == 0)


def test_memory_bounds_the_context_and_too_little_is_refused(
    checkpoint: Checkpoint, start: Callable[..., Engine]
) -> None:
    weights = sum(p.nbytes for p in checkpoint.model.parameters())
    per_token = 3 * 2 * 2 * 16 * 8
    assert start(memory=weights + 300 * per_token).context_length == 300
    assert start().context_length == 512
    with pytest.raises(ConfigurationError, match="LOCAL_LLM_MEMORY"):
        start(memory=weights + 200 * per_token)


def test_the_model_stays_usable_beside_the_engine(
    checkpoint: Checkpoint, start: Callable[..., Engine]
) -> None:
    before = next_logits(checkpoint.model, [7, 8, 9])
    serve(start(), [ask(checkpoint, "거실")])
    assert torch.equal(before, next_logits(checkpoint.model, [7, 8, 9]))


async def test_leaving_while_the_request_is_prepared_frees_its_place(
    start: Callable[..., Engine], checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grammar is compiled in a thread; the client may hang up before there is a ticket."""
    engine = start()
    entered, go_on = threading.Event(), threading.Event()
    submit = engine.submit

    def slowly(*arguments: Any) -> Any:
        entered.set()
        go_on.wait(10)
        return submit(*arguments)

    monkeypatch.setattr(engine, "submit", slowly)
    monkeypatch.setattr(engine, "_at_hand", lambda request: False)
    request = ask(checkpoint, "안녕", max_tokens=100)
    reading = asyncio.ensure_future(anext(engine.stream(request)))
    await asyncio.to_thread(entered.wait, 10)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    go_on.set()
    for _ in range(500):
        if engine.stats()["cancelled"] and not engine.stats()["running"]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"still running: {engine.stats()}")
