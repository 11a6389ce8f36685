"""NF4 and int8 run fused and in static steps, and give what their own modules give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from provider.engine.arena import Arena
from provider.engine.cache import CacheShape
from provider.engine.checkpoint import Checkpoint, load
from provider.engine.device import quiet_libraries
from provider.engine.engine import Engine
from provider.engine.fused import FusedRunner, fits
from provider.engine.graph_start import check, graphable, start
from provider.engine.graphs import GraphRunner
from provider.engine.limits import Limits
from provider.engine.products import EightBit, FusedLinear, multiplies
from provider.engine.request import GenerationRequest, Sampling
from provider.engine.runner import ModelRunner, attention_heads
from provider.engine.runners import runner_of
from tests.engine.serving import serve
from tests.engine.test_graph_engine import requests
from tests.engine.test_runner import packed, rows

pytest.importorskip("bitsandbytes")
quiet_libraries()

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, GPU])]
KINDS: list[Any] = ["nf4", "int8"]


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_exaone: Any) -> Path:
    """Shapes that bitsandbytes' CPU kernel takes."""
    made: Path = write_exaone(tmp_path_factory.mktemp("narrow") / "exaone", intermediate_size=128)
    return made


def loaded(folder: Path, device: str, kind: Any) -> Checkpoint:
    return load(folder, device, "bf16", kind, progress=False)


def test_nf4_gives_what_its_own_modules_give(folder: Path, device: str) -> None:
    model: Any = loaded(folder, device, "nf4").model
    assert fits(model)
    tokens = rows(3, 40)
    general: Any = loaded(folder, device, "nf4").model
    for width in (1, 20):
        fused = packed(FusedRunner(model), model, tokens, width)
        expected = packed(ModelRunner(general), general, tokens, width)
        assert float((fused - expected).norm() / expected.norm()) < 0.02


def test_int8_is_no_further_from_the_whole_weights_than_bitsandbytes(
    folder: Path, device: str
) -> None:
    """Which narrows what the weights are multiplied by, too."""
    tokens = rows(3, 40)
    whole: Any = load(folder, device, "fp32", progress=False).model
    model: Any = loaded(folder, device, "int8").model
    general: Any = loaded(folder, device, "int8").model
    assert fits(model)
    with torch.inference_mode():
        plain = whole(input_ids=torch.tensor(tokens, device=device), use_cache=False).logits
    for width in (1, 20):
        ours = (packed(FusedRunner(model), model, tokens, width) - plain).norm()
        theirs = (packed(ModelRunner(general), general, tokens, width) - plain).norm()
        assert ours < 1.1 * theirs
        assert ours < 0.15 * plain.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_the_check_at_the_start_passes_and_counts_the_weights(
    folder: Path, device: str, kind: str
) -> None:
    model: Any = loaded(folder, device, kind).model
    runner: Any = runner_of(model)
    assert graphable(runner)
    plain = FusedRunner(load(folder, device, "bf16", progress=False).model)
    assert runner.weight_bytes < 0.8 * plain.weight_bytes
    assert runner.widened == 2 * 128 * 64
    layers, heads, dim = attention_heads(model)
    shape = CacheShape(layers, heads, dim, model.dtype, model.device, 512, 8192)
    graphs = GraphRunner(runner, Arena(shape), capture=device == "cuda", room=1 << 30)
    check(graphs)
    assert bool(graphs.figures()["graphs"]) == (device == "cuda")


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_with_static_steps_answers_as_one_without(
    folder: Path, device: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy, free and constrained; equal to rounding, so only the beginning is compared."""
    checkpoint = loaded(folder, device, kind)
    asked = [each for each in requests(checkpoint) if each.sampling.temperature == 0]
    texts = []
    for static in (False, True):
        monkeypatch.setattr(
            "provider.engine.engine.graphs_for",
            lambda model, runner, limits, static=static: (
                start(model, runner, limits, capture=device == "cuda") if static else None
            ),
        )
        engine = Engine(checkpoint, Limits(max_batch=8, memory=256 << 20, context_length=512))
        engine.start()
        texts.append([client.text()[:1] for client in serve(engine, asked)])
        assert ("graph_steps" in engine.stats()) == static
        engine.close()
    assert texts[0] == texts[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_only_reads_a_part_of_a_prompt_wants_no_logits(
    folder: Path, device: str, kind: str
) -> None:
    """The CPU kernel of bitsandbytes divides by the number of rows."""
    engine = Engine(loaded(folder, device, kind), Limits(memory=1 << 30, step_tokens=100))
    engine.start()
    request = GenerationRequest(tuple(range(10, 250)), Sampling(0), 3)
    (client,) = serve(engine, [request])
    assert client.usage.prompt == 240
    engine.close()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("outputs", "inputs"), [(96, 64), (33, 50)])
def test_int8_multiplies_by_its_weights(outputs: int, inputs: int, dtype: torch.dtype) -> None:
    """Few and many rows, shapes that torch's kernel takes and others, a bias."""
    bnb: Any = pytest.importorskip("bitsandbytes")

    torch.manual_seed(0)
    module = bnb.nn.Linear8bitLt(inputs, outputs, has_fp16_weights=False)
    module.weight = bnb.nn.Int8Params(
        torch.randn(outputs, inputs), requires_grad=False, has_fp16_weights=False
    )
    module = module.to("cpu").requires_grad_(False)
    weight = module.weight.data.float() * (module.weight.SCB / 127).unsqueeze(1)
    product = EightBit(module)
    for count in (1, 5, 40):
        x = torch.randn(count, inputs).to(dtype)
        expected = x.float() @ weight.t() + module.bias
        error = float((product(x).float() - expected).norm() / expected.norm())
        assert error < {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 1e-5}[dtype]


def test_which_modules_multiply_together() -> None:
    bnb: Any = pytest.importorskip("bitsandbytes")

    plain, narrow = nn.Linear(8, 8), bnb.nn.Linear8bitLt(8, 8, has_fp16_weights=False)
    assert multiplies([plain, plain])
    assert multiplies([narrow, narrow])
    assert not multiplies([plain, narrow])
    assert FusedLinear([plain, plain], None).linear is not None
