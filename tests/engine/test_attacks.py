"""Traffic that no polite client sends, and files that no careful tool writes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from provider.engine.checkpoint import Checkpoint, load
from provider.engine.engine import Engine
from provider.engine.limits import Limits
from provider.engine.request import Done, GenerationRequest, Sampling
from provider.errors import ApiError, ConfigurationError, ModelNotFound, RateLimited, ServerError
from provider.protocol.schema import compile
from tests.engine.adapter_files import write_adapter
from tests.engine.serving import Client, eventually, serve, submit

SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}


@pytest.fixture
def checkpoint(exaone_folder: Path) -> Checkpoint:
    return load(exaone_folder, device="cpu", dtype="fp32", progress=False)


@pytest.fixture
def engine(checkpoint: Checkpoint) -> Iterator[Engine]:
    engine = Engine(checkpoint, Limits(queue=2000))
    engine.start()
    yield engine
    engine.close()


@pytest.mark.parametrize("sampling", [Sampling(0), Sampling(1.0), Sampling(1.0, top_p=0.5)])
@pytest.mark.parametrize("constrained", [False, True])
def test_a_row_whose_logits_are_no_numbers_fails_alone(
    checkpoint: Checkpoint, engine: Engine, tmp_path: Path, sampling: Sampling, constrained: bool
) -> None:
    """An adapter that overflows takes nobody with it, and leaves nothing in the prefix cache."""
    engine.load_adapter("broken", write_adapter(tmp_path / "a", checkpoint.model, 0))
    for pair in engine._adapters.get("broken").pairs.values():
        pair.up.fill_(torch.finfo(torch.float32).max)
    prompt = tuple(checkpoint.tokenizer.encode("거실은 남향이고 채광이 좋습니다. " * 6))
    constraint = compile(SCHEMA) if constrained else None
    asked = GenerationRequest(prompt, sampling, 8, constraint=constraint)
    expected = serve(engine, [asked])[0].text() if sampling.temperature == 0 else None
    broken = GenerationRequest(prompt, sampling, 8, constraint=constraint, adapter="broken")
    for _ in range(2):
        ours, theirs = serve(engine, [asked, broken])
        assert isinstance(theirs.error, ServerError)
        assert isinstance(ours.events[-1], Done)
        if expected is not None:
            assert ours.text() == expected
    assert engine.alive


def test_adapters_that_come_and_go_under_load(
    checkpoint: Checkpoint, engine: Engine, tmp_path: Path
) -> None:
    """Every request is answered by the weights of its name, or told that there are none."""
    folder = write_adapter(tmp_path / "a", checkpoint.model, 1)
    prompt = tuple(checkpoint.tokenizer.encode("거실은 남향이고"))
    base = GenerationRequest(prompt, Sampling(0), 6)
    adapted = GenerationRequest(prompt, Sampling(0), 6, adapter="a:b")
    engine.load_adapter("a:b", folder)
    plain, other = (client.text() for client in serve(engine, [base, adapted]))
    assert plain != other
    over = threading.Event()
    failures: list[ApiError] = []

    def churn() -> None:
        while not over.is_set():
            try:
                engine.load_adapter("a:b", folder)
                engine.unload_adapter("a:b")
            except ModelNotFound:
                pass
            except ApiError as error:
                failures.append(error)

    churning = [threading.Thread(target=churn) for _ in range(3)]
    for thread in churning:
        thread.start()
    answered: list[tuple[Client, str]] = []
    for _ in range(150):
        answered.append((submit(engine, base), plain))
        try:
            answered.append((submit(engine, adapted), other))
        except ModelNotFound:
            continue
    over.set()
    for thread in churning:
        thread.join()
    assert not failures
    assert all(client.wait().text() == text for client, text in answered)


def test_a_thousand_requests_wait_their_turn(checkpoint: Checkpoint, engine: Engine) -> None:
    prompt = tuple(checkpoint.tokenizer.encode("거실은"))
    clients = [
        submit(engine, GenerationRequest(prompt, Sampling(seed=n), 2), 1 if n % 5 == 0 else None)
        for n in range(1000)
    ]
    for client in clients:
        client.wait()
    assert eventually(lambda: engine.stats()["running"] == engine.stats()["waiting"] == 0)
    assert engine.stats()["deaths"] == 0


def test_more_than_may_wait_are_refused_and_the_rest_answered(checkpoint: Checkpoint) -> None:
    engine = Engine(checkpoint, Limits(max_batch=4, queue=8))
    engine.start()
    prompt = tuple(checkpoint.tokenizer.encode("거실은"))
    taken, refused = [], 0
    for seed in range(300):
        try:
            taken.append(submit(engine, GenerationRequest(prompt, Sampling(seed=seed), 30)))
        except RateLimited:
            refused += 1
    assert refused
    assert all(isinstance(client.wait().events[-1], Done) for client in taken)
    engine.close()


@pytest.mark.parametrize("damage", ["cut", "zeros", "empty", "header"])
def test_a_damaged_adapter_is_refused_and_the_old_one_stays(
    checkpoint: Checkpoint, engine: Engine, tmp_path: Path, damage: str
) -> None:
    engine.load_adapter("a", write_adapter(tmp_path / "good", checkpoint.model, 1))
    folder = write_adapter(tmp_path / "bad", checkpoint.model, 2)
    file = folder / "adapter_model.safetensors"
    data = file.read_bytes()
    file.write_bytes(
        {
            "cut": data[: len(data) // 2],
            "zeros": bytes(len(data)),
            "empty": b"",
            "header": b"\xff" * 8 + data[8:],
        }[damage]
    )
    with pytest.raises(ConfigurationError, match="adapter_model"):
        engine.load_adapter("a", folder)
    prompt = tuple(checkpoint.tokenizer.encode("거실은"))
    client = serve(engine, [GenerationRequest(prompt, Sampling(0), 3, adapter="a")])[0]
    assert not isinstance(client.events[-1], ApiError)
