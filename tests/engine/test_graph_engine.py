"""An engine whose steps are static gives what the slow way gives; on CUDA they are graphs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from provider.engine.checkpoint import Checkpoint, load
from provider.engine.engine import Engine
from provider.engine.graph_start import start
from provider.engine.limits import Limits
from provider.engine.request import GenerationRequest, Sampling
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


def test_adapters_alone_and_mixed_give_what_they_give_without_graphs(
    engine: Engine, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    plain = Engine(checkpoint, LIMITS)
    plain._graphs = None
    for each in (engine, plain):
        each.start()
        for seed in (0, 1):
            folder = tmp_path / str(seed)
            if not folder.exists():
                write_adapter(folder, checkpoint.model, seed)
            each.load_adapter(f"base:{seed}", folder)
    alone = requests(checkpoint, "base:0")
    mixed = [*requests(checkpoint, "base:1"), *requests(checkpoint), *alone]
    for asked in (alone, mixed):
        before = engine.stats()["graph_steps"]
        ours, theirs = serve(engine, asked), serve(plain, asked)
        assert [c.text() for c in ours] == [c.text() for c in theirs]
        assert engine.stats()["graph_steps"] > before
    engine.unload_adapter("base:0")
    held = engine._graphs
    assert held is not None
    assert eventually(lambda: len({bucket.adapter for bucket in list(held._known)}) <= 2)
    plain.close()


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
