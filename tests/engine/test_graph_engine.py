"""An engine whose steps are static gives what the slow way gives; on CUDA they are graphs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from provider.engine.checkpoint import Checkpoint, load
from provider.engine.engine import Engine
from provider.engine.fused import FusedRunner
from provider.engine.graph_start import start
from provider.engine.limits import Limits
from provider.engine.lora_bank import LoraBank
from provider.engine.request import GenerationRequest, Sampling
from provider.engine.runners import runner_of
from provider.errors import Unavailable
from provider.protocol.schema import compile, regex
from tests.engine.adapter_files import write_adapter
from tests.engine.one_by_one import complete
from tests.engine.serving import eventually, serve

LIMITS = Limits(max_batch=8, memory=256 << 20, context_length=512)
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, GPU])])
def checkpoint(request: pytest.FixtureRequest, exaone_folder: Path) -> Checkpoint:
    loaded = load(exaone_folder, device=request.param, dtype="fp32", progress=False)
    loaded.model.double()
    return loaded


@pytest.fixture
def engine(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    capture = checkpoint.model.device.type == "cuda"
    monkeypatch.setattr(
        "provider.engine.engine.graphs_for",
        lambda model, runner, limits: start(model, runner, limits, capture=capture),
    )
    runner: Any = runner_of(checkpoint.model)
    runner.bank = LoraBank(runner._products(), runner.device, checkpoint.model.dtype)
    engine = Engine(checkpoint, LIMITS)
    engine.start()
    yield engine
    engine.close()


def requests(model: Checkpoint, adapter: str | None = None) -> list[GenerationRequest]:
    """Free and constrained, greedy and sampled, penalised, with drafts; long enough to grow."""
    texts = ["거실은 남향이고 채광이 좋습니다. ", "The living room faces south. " * 9, '{"rooms":[']
    formats: list[Any] = [
        None,
        compile({"enum": ["거실은 남향", "거실은 북향", "The kitchen"]}),
        regex("[가-힣 ]{2,9}[.]"),
    ]
    return [
        GenerationRequest(
            tuple(model.tokenizer.encode(text)),
            Sampling(temperature=heat, seed=7, frequency_penalty=0.5 if heat == 0.9 else 0.0),
            40,
            constraint=constraint,
            adapter=adapter,
        )
        for text, heat in zip(texts, (0.0, 0.7, 0.9), strict=True)
        for constraint in formats
    ]


def test_answers_are_those_of_the_slow_way(engine: Engine, checkpoint: Checkpoint) -> None:
    asked = requests(checkpoint)
    for request, client in zip(asked, serve(engine, asked), strict=True):
        expected = complete(checkpoint.model, engine.vocabulary, request)
        assert (client.text(), client.reason()) == (expected.text, expected.reason)
    assert engine.stats()["graph_steps"] > 20


def test_six_adapters_and_none_share_static_steps_and_give_what_each_gives_alone(
    engine: Engine, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    plain = Engine(checkpoint, LIMITS)
    plain._runner, plain._graphs = FusedRunner(checkpoint.model), None
    plain.start()
    for seed in range(6):
        folder = write_adapter(tmp_path / str(seed), checkpoint.model, seed, rank=2 + seed)
        for each in (engine, plain):
            each.load_adapter(f"base:{seed}", folder)
    names = [None, *(f"base:{seed}" for seed in range(6))]
    mixed = [request for name in names for request in requests(checkpoint, name)[::4]]
    ours, theirs = serve(engine, mixed), serve(plain, mixed)
    assert [c.text() for c in ours] == [c.text() for c in theirs]
    stats = engine.stats()
    assert stats["graph_steps"] > 0.8 * stats["steps"]
    assert stats["adapter_bytes"] > 0
    plain.close()


def test_a_reloaded_adapter_takes_the_columns_of_the_one_that_went(
    engine: Engine, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    held = engine._graphs
    assert held is not None
    bank = held.inner.bank
    assert bank is not None
    asked = requests(checkpoint, "again")[:1]
    texts = []
    for seed in (0, 1, 0, 1, 0):
        folder = tmp_path / str(seed)
        if not folder.exists():
            write_adapter(folder, checkpoint.model, seed)
        engine.load_adapter("again", folder)
        texts.append(serve(engine, asked)[0].text())
        serve(engine, requests(checkpoint)[:1])  # the thread lets go of the request before
        gc.collect()
    assert texts[0] == texts[2] == texts[4] != texts[1] == texts[3]
    assert bank.tables.columns <= 4 * 4  # the old and the new one at once, and room to grow


def test_an_engine_that_died_starts_over_in_the_same_arena(
    engine: Engine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = engine._graphs
    assert held is not None
    serve(engine, requests(checkpoint)[:3])
    monkeypatch.setattr("provider.engine.scheduler.pack", lambda _: 1 / 0)
    with pytest.raises(AssertionError):
        serve(engine, requests(checkpoint)[:1])[0].usage  # noqa: B018
    monkeypatch.undo()
    assert eventually(lambda: engine.alive and engine.stats()["deaths"] == 1)
    request = requests(checkpoint)[0]
    (client,) = serve(engine, [request])
    assert client.text() == complete(checkpoint.model, engine.vocabulary, request).text
    assert engine._graphs is held


def test_an_engine_whose_device_computes_no_more_stays_down(
    engine: Engine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel's error breaks CUDA for the process: `/health` must not say that all is well."""
    monkeypatch.setattr("provider.engine.scheduler.pack", lambda _: 1 / 0)
    monkeypatch.setattr("provider.engine.engine.works", lambda _: False)
    with pytest.raises(AssertionError):
        serve(engine, requests(checkpoint)[:1])[0].usage  # noqa: B018
    monkeypatch.undo()
    thread = engine._thread
    assert thread is not None
    thread.join(10)
    assert not thread.is_alive()
    assert not engine.alive
    with pytest.raises(Unavailable):
        engine.submit(requests(checkpoint)[0], lambda _: None)
