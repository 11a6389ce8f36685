"""A step waits for its device once. Simulated: it needs no GPU, and it fails where one would wait.

`test_a_gpu_waits_once` asks CUDA itself where there is one.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from provider.engine.arena import Arena
from provider.engine.cache import CacheShape, KVCache
from provider.engine.checkpoint import Checkpoint, load
from provider.engine.draws import DrawnRow, Draws
from provider.engine.engine import Engine
from provider.engine.fused import FusedRunner
from provider.engine.graphs import GraphRunner
from provider.engine.limits import Limits
from provider.engine.lora_bank import LoraBank
from provider.engine.prefix import PrefixCache
from provider.engine.request import GenerationRequest, Sampling
from provider.engine.runner import attention_heads
from provider.engine.scheduler import Scheduler
from provider.engine.space import Space
from provider.engine.stats import Stats
from provider.protocol.schema import compile
from tests.engine.adapter_files import write_adapter
from tests.engine.one_by_one import complete
from tests.engine.serving import Client, serve
from tests.engine.simulated_device import DEVICE, OnDevice, Simulated

PATHS = compile({"enum": ["거실은 남향", "거실은 북향", "The kitchen"]})


@pytest.fixture(scope="module")
def checkpoint(exaone_folder: Path) -> Checkpoint:
    loaded = load(exaone_folder, device="cpu", dtype="fp32", progress=False)
    loaded.model.double()
    return loaded


def scheduler(checkpoint: Checkpoint, *, static: bool) -> Scheduler:
    """What `Engine.scheduler` makes on a GPU, on the simulated one; called within `Simulated`."""
    model = checkpoint.model
    inner = FusedRunner(model)
    inner.device = DEVICE
    inner._rotary = deepcopy(inner._rotary)
    inner._rotary.inv_freq = OnDevice(inner._rotary.inv_freq)
    inner.bank = LoraBank(inner._products(), DEVICE, model.dtype)
    layers, heads, dim = attention_heads(model)
    shape = CacheShape(layers, heads, dim, model.dtype, DEVICE, 512, 8192)
    runner: Any = inner
    arena = Arena(shape) if static else None
    if arena is not None:
        runner, shape = GraphRunner(inner, arena, capture=False), arena.shape
    cache = KVCache(shape, arena)
    space = Space(cache, PrefixCache(cache, 4096))
    return Scheduler(runner, space, Stats(), max_batch=8, step_tokens=256)


def requests(checkpoint: Checkpoint, kind: str) -> list[GenerationRequest]:
    texts = ["거실은 남향이고 ", "The living room ", "2024 " * 60]
    changes: dict[str, dict[str, Any]] = {
        "greedy": {"temperature": 0.0},
        "sampled": {"temperature": 0.8},
        "nucleus": {"temperature": 0.8, "top_p": 0.9},
        "penalised": {"temperature": 0.8, "frequency_penalty": 0.5, "logit_bias": {9: 2.0}},
        "scored": {"temperature": 0.8, "logprobs": 3},
        "scored greedy": {"temperature": 0.0, "logprobs": 3},
        "constrained": {"temperature": 0.8},
        "constrained greedy": {"temperature": 0.0},
    }
    stated = changes[kind]
    if "logit_bias" in stated:
        stated = stated | {"logit_bias": tuple(stated["logit_bias"].items())}
    return [
        GenerationRequest(
            tuple(checkpoint.tokenizer.encode(text)),
            Sampling(seed=5, **stated),
            24,
            constraint=PATHS if "constrained" in kind else None,
        )
        for text in texts
    ]


def run(checkpoint: Checkpoint, asked: list[GenerationRequest], *, static: bool) -> list[list[str]]:
    """The waits of each step of some requests, whose texts must be those of the slow way."""
    engine = Engine(checkpoint, Limits(memory=64 << 20))
    clients = [Client() for _ in asked]
    waits = []
    with torch.inference_mode(), Simulated() as device:
        made = scheduler(checkpoint, static=static)
        for request, client in zip(asked, clients, strict=True):
            made.add(engine.job(request, client))
        while not made.idle:
            device.waits.clear()
            made.step()
            waits.append(list(device.waits))
    for request, client in zip(asked, clients, strict=True):
        assert client.text() == complete(checkpoint.model, engine.vocabulary, request).text
    return waits


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize(
    "kind", ["greedy", "sampled", "nucleus", "penalised", "scored", "scored greedy"]
)
def test_a_step_waits_for_the_device_once(checkpoint: Checkpoint, kind: str, static: bool) -> None:
    waits = run(checkpoint, requests(checkpoint, kind), static=static)
    assert {tuple(each) for each in waits} == {("to to the host",)}


@pytest.mark.parametrize("kind", ["constrained", "constrained greedy"])
def test_a_row_whose_token_is_not_permitted_is_fetched_by_itself(
    checkpoint: Checkpoint, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []
    whole = DrawnRow.whole

    def noted(row: DrawnRow) -> torch.Tensor:
        fetched.append(row)
        return whole(row)

    monkeypatch.setattr(DrawnRow, "whole", noted)
    waits = run(checkpoint, requests(checkpoint, kind), static=True)
    assert all(set(each) == {"to to the host"} for each in waits)
    assert 0 < sum(map(len, waits)) - len(waits) <= len(fetched)


@pytest.mark.parametrize("static", [True, False])
def test_rows_of_different_adapters_wait_once(
    checkpoint: Checkpoint, tmp_path: Path, static: bool
) -> None:
    engine = Engine(checkpoint, Limits(memory=64 << 20))
    engine.start()
    names = [None, "a", "b"]
    for seed, name in enumerate(names[1:]):
        engine.load_adapter(str(name), write_adapter(tmp_path / str(name), checkpoint.model, seed))
    some = zip(requests(checkpoint, "greedy"), names, strict=True)
    asked = [replace(request, adapter=name) for request, name in some]
    expected = [client.text() for client in serve(engine, asked)]
    clients = [Client() for _ in asked]
    with torch.inference_mode(), Simulated() as device:
        made = scheduler(checkpoint, static=static)
        for request, client in zip(asked, clients, strict=True):
            made.add(engine.job(request, client))
        made.step()  # takes the adapters in
        while not made.idle:
            device.waits.clear()
            made.step()
            assert device.waits == ["to to the host"]
    assert [client.text() for client in clients] == expected
    engine.close()


@pytest.mark.parametrize(
    ("read", "wait"),
    [
        (lambda x: float(x.sum()), "item"),
        (lambda x: x.cpu(), "to to the host"),
        (lambda x: x[x > 0], "index"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x + torch.tensor([1.0]).to(x.device), "to to the device"),
        (lambda x: bool((x > 0).all()), "is_nonzero"),
        (lambda x: torch.empty(3).copy_(x), "copy_"),
    ],
)
def test_the_simulated_device_notices_waits(read: Any, wait: str) -> None:
    with torch.inference_mode(), Simulated() as device:
        x = torch.zeros(3, device=DEVICE)
        x[torch.tensor([1]).to(DEVICE, non_blocking=True)] += 1
        assert device.waits == []
        read(x)
        assert device.waits[:1] == [wait]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_waits_once(exaone_folder: Path) -> None:
    """CUDA refuses every wait but that of `Draws`."""
    loaded = load(exaone_folder, device="cuda", dtype="bf16", progress=False)
    engine = Engine(loaded, Limits(memory=1 << 30, drafts=False))
    made = engine.scheduler()
    for request in requests(loaded, "greedy") + requests(loaded, "sampled"):
        made.add(engine.job(request, Client()))
    read = Draws._read

    def allowed(draws: Draws) -> Any:
        torch.cuda.set_sync_debug_mode("default")
        rows = read(draws)
        torch.cuda.set_sync_debug_mode("error")
        return rows

    for _ in range(6):
        made.step()  # all are admitted; graphs are captured, libraries loaded
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Draws, "_read", allowed)
        try:
            torch.cuda.set_sync_debug_mode("error")
            for _ in range(4):
                made.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    engine.close()
