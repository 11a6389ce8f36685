"""The kernels in C: what they compute, and that the engine does without them."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
import torch

from provider.engine.attention import AttentionPlan, Segment
from provider.engine.cache import CacheShape, KVCache
from provider.engine.linear import Linear
from provider.engine.native import build
from provider.engine.native import kernels as module
from provider.engine.native.kernels import Kernels
from provider.engine.urn import _weigh
from tests.engine.needs import needs_kernels

pytestmark = needs_kernels


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(64, 2), (128, 96), (320, 1280)])
def test_a_product_is_the_exact_one_to_rounding(
    own: Kernels, shape: tuple[int, int], threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    weight = torch.randn(shape).bfloat16()
    layer = Linear(weight, kernels=own)
    try:
        for rows in range(1, 30):
            x = torch.randn(rows, shape[1]).bfloat16()
            exact = x.double() @ weight.double().T
            error = (layer(x).double() - exact).abs()
            assert bool((error <= 0.005 * exact.abs() + 0.02).all()), rows
    finally:
        torch.set_num_threads(before)


def test_a_rows_product_does_not_depend_on_the_rows_beside_it(own: Kernels) -> None:
    layer = Linear(torch.randn(256, 512).bfloat16(), kernels=own)
    x = torch.randn(own.rows, 512).bfloat16()
    together = layer(x)
    for row in range(own.rows):
        assert torch.equal(layer(x[row : row + 1])[0], together[row])


def test_odd_shapes_views_and_biases_give_what_torch_gives(own: Kernels) -> None:
    bias = torch.randn(128).bfloat16()
    for weight, offset in (
        (torch.randn(128, 64), bias),
        (torch.randn(100, 64), None),
        (torch.randn(128, 63), None),
    ):
        weight = weight.bfloat16()
        layer = Linear(weight, offset, kernels=own)
        x = torch.randn(3, 2 * weight.shape[1]).bfloat16()[:, ::2]
        plain = torch.nn.functional.linear(x, weight, offset)
        torch.testing.assert_close(layer(x), plain, atol=0.1, rtol=0.02)
        torch.testing.assert_close(layer(x[None])[0], plain, atol=0.1, rtol=0.02)
        assert torch.equal(layer.plain(), weight)
        assert layer(x[:0]).shape == (0, weight.shape[0])


@pytest.mark.parametrize("x", [torch.ones(2, 64), torch.ones(2, 66).bfloat16()])
def test_what_does_not_fit_the_weight_is_refused_as_torch_refuses_it(
    own: Kernels, x: torch.Tensor
) -> None:
    layer = Linear(torch.ones(64, 64).bfloat16(), kernels=own)
    with pytest.raises(RuntimeError):
        layer(x)


def test_without_a_compiler_there_is_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.NotBuilt, match="no C compiler"):
        build.library()


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'error: no such flag' >&2\nexit 1\n")
    compiler.chmod(0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(build.NotBuilt, match="no such flag"):
        build.library()
    assert list((tmp_path / "cache" / "sllm").iterdir()) == []


def test_a_library_that_others_may_write_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build.library()
    (made,) = (tmp_path / "sllm").glob("*.so")
    made.chmod(0o722)
    with pytest.raises(build.NotBuilt, match="written by others"):
        build.library()


def test_a_library_that_is_none_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != "-o" ]; do shift; done\necho half > "$2"\n')
    compiler.chmod(0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(build.NotBuilt, match="cannot be loaded"):
        build.library()


def test_a_damaged_library_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build.library()
    (made,) = (tmp_path / "sllm").glob("*.so")
    whole = made.read_bytes()
    for damaged in (b"", whole[:4096], whole[:4096] + bytes(len(whole) - 4096)):
        # Loading the second would end the process with SIGBUS, the third with SIGSEGV.
        other = tmp_path / "other"
        other.write_bytes(damaged)
        other.chmod(0o700)
        other.replace(made)
        assert build.library().product
        assert len(made.read_bytes()) == len(whole)


def test_a_new_library_takes_the_place_of_those_that_nobody_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "sllm"
    folder.mkdir(mode=0o700)
    for name, age in (("kernels-old.so", 2.0), ("kernels-recent.so", 0.5), ("other.so", 2.0)):
        (folder / name).write_bytes(b"")
        at = time.time() - age * build.KEPT
        os.utime(folder / name, (at, at))
    build.library()
    left = {path.name for path in folder.iterdir()}
    assert {"kernels-recent.so", "other.so"} < left
    assert len(left) == 3
    (made,) = [path for path in folder.iterdir() if path.stat().st_size]
    os.utime(made, (0, 0))
    build.library()
    assert time.time() - made.stat().st_mtime < 3600


@pytest.mark.skipif(shutil.which("clang") is None, reason="needs clang")
def test_clang_makes_the_same_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "clang")
    theirs = Kernels(build.library(), 48)
    assert module._multiplies(theirs)
    assert module._attends_rightly(theirs)
    assert module._weighs(theirs)


def test_a_library_without_the_kernels_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(
        f'#!/bin/sh\nwhile [ "$1" != "-o" ]; do shift; done\n'
        f'exec {shutil.which("cc")} -shared -o "$2" -x c /dev/null\n'
    )
    compiler.chmod(0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(build.NotBuilt, match="lacks one of product, attend, weigh"):
        build.library()


@pytest.mark.parametrize("window", [None, 24])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(4, 2, 64), (6, 2, 80), (2, 2, 16)])
def test_attention_of_many_rows_is_torchs(
    own: Kernels, heads: int, kv_heads: int, dim: int, window: int | None
) -> None:
    layers, layer = 3, 1
    device = torch.device("cpu")
    shape = CacheShape(layers, kv_heads, dim, torch.bfloat16, device, 512, 4096)
    cache = KVCache(shape)
    segments, offset = [], 0
    for position, count in ((0, 5), (40, 1), (300, 7), (31, 33), (0, 1)):
        slot = cache.allocate(position + count)
        assert slot is not None
        slot.slab.kv.normal_()
        segments.append(Segment(offset, count, position, slot))
        offset += count
    query = torch.randn(offset, heads + 1, dim).bfloat16()[:, :heads]
    ours = AttentionPlan(segments, device, kernels=own).attend(layer, query, None, window)
    theirs = AttentionPlan(segments, device).attend(layer, query, None, window)
    torch.testing.assert_close(ours, theirs, atol=0.03, rtol=0.02)


def test_a_rows_attention_does_not_depend_on_how_it_is_cut(own: Kernels) -> None:
    device = torch.device("cpu")
    slot = KVCache(CacheShape(1, 2, 32, torch.bfloat16, device, 512, 512)).allocate(200)
    assert slot is not None
    slot.slab.kv.normal_()
    query = torch.randn(40, 4, 32).bfloat16()
    whole = AttentionPlan([Segment(0, 40, 90, slot)], device, kernels=own).attend(0, query, None)
    for at in range(40):
        plan = AttentionPlan([Segment(0, 1, 90 + at, slot)], device, kernels=own)
        assert torch.equal(plan.attend(0, query[at : at + 1], None)[0], whole[at])


@pytest.mark.parametrize("at", [0, 5, 33, 49])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_key_that_is_no_number_is_not_passed_over(own: Kernels, at: int, bad: float) -> None:
    device = torch.device("cpu")
    slot = KVCache(CacheShape(1, 2, 32, torch.bfloat16, device, 512, 512)).allocate(50)
    assert slot is not None
    slot.slab.kv.normal_()
    slot.slab.kv[0, 0, slot.index, at, 0] = bad
    plan = AttentionPlan([Segment(0, 1, 49, slot)], device, kernels=own)
    out = plan.attend(0, torch.ones(1, 4, 32).bfloat16(), None)[0]
    assert bool(out[:2].isnan().all())
    assert bool(out[2:].isfinite().all())


@pytest.mark.parametrize("missing", ["_is_avx512_supported", "_is_avx512_bf16_supported"])
def test_a_processor_without_the_instructions_loads_nothing(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, missing, lambda: False)
    monkeypatch.setattr(module, "library", lambda: pytest.fail("loaded"))
    assert module._made.__wrapped__() is None


@pytest.mark.parametrize("tokens", [1, 16, 255, 256, 257, 5000])
@pytest.mark.parametrize("temperature", [0.01, 1.0, 2.0])
def test_weights_are_summed_up_as_torch_does(own: Kernels, tokens: int, temperature: float) -> None:
    values = 5 * torch.randn(tokens)
    values[torch.rand(tokens) < 0.2] = -torch.inf
    values[tokens // 2] = 3.0
    sums, most = own.weigh(values, 1 / temperature)
    theirs, largest = _weigh(values, temperature)
    assert most == largest
    torch.testing.assert_close(sums, theirs[: sums.shape[0]], rtol=1e-4, atol=1e-30)


@pytest.mark.parametrize("at", [0, 17, 300, 510])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_logit_that_is_no_number_shows_in_the_sums(own: Kernels, at: int, bad: float) -> None:
    values = torch.randn(511)
    values[at] = bad
    sums, _ = own.weigh(values, 1.0)
    assert bool(sums[at // 256].isnan())
