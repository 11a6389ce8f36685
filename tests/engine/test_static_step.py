"""Steps with fixed shapes give what packed steps give; captured where there is a CUDA device."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from provider.engine.adapters import Adapter, LoraPair
from provider.engine.arena import PAGE, Arena
from provider.engine.attention import Segment
from provider.engine.cache import CacheShape, KVCache
from provider.engine.fused import FusedRunner
from provider.engine.graph_start import attentions, check, graphable, start
from provider.engine.graphs import GATHERED, SIZES, GraphRunner
from provider.engine.limits import Limits
from provider.engine.paged import PagedAttention
from provider.engine.runner import Runner, Step, attention_heads
from provider.engine.runners import runner_of
from provider.engine.static_step import GatheredAttention
from tests.engine.test_runner import build

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, GPU])]
LIMITS = Limits(max_batch=8, context_length=512)


def graphs(
    name: str,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    attention: type[GatheredAttention] | None = None,
) -> GraphRunner:
    model = build(name, dtype).to(device)
    runner = FusedRunner(model, banked=True)
    layers, heads, dim = attention_heads(model)
    shape = CacheShape(layers, heads, dim, dtype, model.device, 512, 8192)
    capture = device == "cuda"
    fastest = attention or attentions(model)[0]
    return GraphRunner(runner, Arena(shape), attention=fastest, capture=capture, room=1 << 30)


class Rows:
    """Rows of different lengths in slots of `runner`'s arena, as a scheduler would feed them."""

    def __init__(self, graphs: GraphRunner, lengths: list[int]) -> None:
        cache = KVCache(graphs.shape, graphs.arena)
        self.slots = [cache.allocate(length + 60) for length in lengths]
        self.lengths = [0] * len(lengths)
        graphs.inner.forward(self.step(lengths))

    def step(self, counts: list[int], adapters: dict[int, Adapter] | None = None) -> Step:
        """The next `counts` tokens of each row (0: it takes no part); all logits are wanted."""
        step = Step()
        for row, count in enumerate(counts):
            if not count:
                continue
            slot, at, offset = self.slots[row], self.lengths[row], len(step.tokens)
            assert slot is not None
            step.tokens += [(11 * row + 5 * place + 3) % 160 for place in range(at, at + count)]
            step.positions += range(at, at + count)
            step.segments.append(Segment(offset, count, at, slot))
            step.wanted += range(offset, offset + count)
            if adapters and row in adapters:
                if step.adapters and step.adapters[-1][0] is adapters[row]:
                    offset = step.adapters.pop()[1]
                step.adapters.append((adapters[row], offset, len(step.tokens)))
            self.lengths[row] += count
        return step


COUNTS = [[1, 1, 1], [1, 5, 2], [0, 0, 1], [17, 1, 1], [1, 1, 1], [1, 0, 1]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["exaone", "llama"])
@pytest.mark.parametrize("device", DEVICES)
def test_static_steps_equal_packed_steps(device: str, name: str, dtype: torch.dtype) -> None:
    """Newest tokens, drafts, rows that sit out, rows on both sides of a bucket's length."""
    runner = graphs(name, device, dtype)
    ours, theirs = Rows(runner, [240, 9, 300]), Rows(graphs(name, device, dtype), [240, 9, 300])
    theirs_runner = FusedRunner(build(name, dtype).to(device))
    for counts in COUNTS:
        step = ours.step(counts)
        assert runner.bucket(step) is not None
        got, plain = runner.forward(step), theirs_runner.forward(theirs.step(counts))
        assert got.shape == plain.shape
        if dtype is torch.float32:
            assert torch.allclose(got, plain, atol=2e-4 if device == "cpu" else 5e-3)
        assert float((got - plain).norm() / plain.norm()) < 0.03
    assert runner.steps == len(COUNTS)
    assert (runner.figures()["graphs"] > 0) == (device == "cuda")


def modules(runner: GraphRunner) -> list[torch.nn.Module]:
    return [part.module for product in runner.inner._products() for part in product.parts]


def adapter(runner: GraphRunner, key: int, rank: int = 4, few: bool = False) -> Adapter:
    """Random matrices for all modules, or for every third."""
    chance = torch.Generator().manual_seed(key)
    pairs: dict[torch.nn.Module, LoraPair] = {
        part.module: LoraPair(
            0.3 * torch.randn(product.inputs, rank, generator=chance),
            0.3 * torch.randn(rank, part.stop - part.start, generator=chance),
        )
        for product in runner.inner._products()
        for part in product.parts
    }
    kept = list(pairs)[::3] if few else list(pairs)
    return Adapter(f"a{key}", key, {module: pairs[module] for module in kept})


def mirrored(one: Adapter, runner: GraphRunner, twin: GraphRunner) -> Adapter:
    """The same adapter for another copy of the model."""
    same = dict(zip(modules(runner), modules(twin), strict=True))
    on = twin.inner.device
    pairs = {same[m]: LoraPair(p.down.to(on), p.up.to(on)) for m, p in one.pairs.items()}
    return replace(one, pairs=pairs)


@pytest.mark.parametrize("device", DEVICES)
def test_every_mixture_of_adapters_is_one_static_step(device: str) -> None:
    """Against the packed way of a CPU, which adds each adapter to its own rows."""
    runner, twin = graphs("exaone", device), graphs("exaone", device)
    twin.inner.bank = None
    loaded = [adapter(runner, 1), adapter(runner, 2, rank=7), adapter(runner, 3, few=True)]
    theirs_of = {each: mirrored(each, runner, twin) for each in loaded}
    ours, theirs = Rows(runner, [20, 9, 30, 5]), Rows(twin, [20, 9, 30, 5])
    mixtures: list[list[int | None]] = [
        [0, 0, 0, 0],
        [0, None, 1, 2],
        [2, 1, None, 0],
        [None, None, None, 1],
    ]
    for mixture in [*mixtures, mixtures[1]]:
        chosen = {row: loaded[at] for row, at in enumerate(mixture) if at is not None}
        step = ours.step([1, 2, 1, 1], chosen)
        assert runner.bucket(step) is not None
        expected = theirs.step([1, 2, 1, 1], {row: theirs_of[a] for row, a in chosen.items()})
        assert torch.allclose(runner.forward(step), twin.inner.forward(expected), atol=5e-3)
    assert runner.steps == len(mixtures) + 1
    assert len(runner._known) == 1  # the tables did not change any more
    plain = runner.forward(ours.step([1, 1, 1, 1]))
    assert torch.allclose(plain, twin.inner.forward(theirs.step([1, 1, 1, 1])), atol=5e-3)
    assert len(runner._known) == 2


def test_graphs_of_tables_that_adapters_have_outgrown_are_dropped() -> None:
    runner = graphs("exaone")
    rows = Rows(runner, [20, 9])
    for key in range(1, 4):
        one = adapter(runner, key)
        runner.attach(one)
        runner.forward(rows.step([1, 1], {0: one}))
    assert len({bucket.adapters for bucket in runner._known}) == 1
    assert runner.figures()["adapter_bytes"] == runner.inner.bank.nbytes > 0  # type: ignore[union-attr]


def paged(query: Tensor, keys: Tensor, values: Tensor, *rest: Any, **stated: Any) -> Tensor:
    """What `varlen_attn` documents for a table of pages."""
    ends, _, most, longest = rest
    table, lengths = stated["block_table"], stated["seqused_k"]
    causal = stated.get("window_size", (-1, -1)) == (-1, 0)
    assert table.dtype is lengths.dtype is ends.dtype is torch.int32
    assert keys.shape[1] == PAGE
    assert all(x.is_contiguous() for x in (ends, lengths))
    assert table.stride(-1) == query.stride(-1) == 1
    counts = ends.diff().tolist()
    assert max(counts) == most
    assert causal or most == 1
    assert longest <= table.shape[1] * keys.shape[1]
    assert 0 <= int(table.min()) <= int(table.max()) < len(keys)
    out = []
    for row, (length, count) in enumerate(zip(lengths.tolist(), counts, strict=True)):
        pages = table[row, : -(-length // keys.shape[1])]
        key, value = (x[pages].flatten(0, 1)[:length].transpose(0, 1) for x in (keys, values))
        few = query[int(ends[row]) : int(ends[row + 1])].transpose(0, 1)
        seen = torch.arange(length) <= torch.arange(length - count, length).unsqueeze(1)
        gqa = stated["enable_gqa"]
        made = scaled_dot_product_attention(
            few, key, value, attn_mask=seen, scale=stated["scale"], enable_gqa=gqa
        )
        out.append(made.transpose(0, 1))
    return torch.cat(out)


def test_pages_are_named_as_flash_attention_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", paged)
    runner, twin = graphs("exaone", attention=PagedAttention), graphs("exaone")
    assert runner.packed
    check(runner)
    assert runner.packed
    assert {bucket.tokens for bucket in runner._known} == set(SIZES)  # no request waits for one
    ours, theirs = Rows(runner, [240, 9, 300]), Rows(twin, [240, 9, 300])
    for counts in COUNTS:
        got, plain = (
            runner.forward(ours.step(counts)),
            twin.inner.forward(theirs.step(counts)),
        )
        assert torch.allclose(got, plain, atol=2e-4)
    assert runner.steps == len(COUNTS)
    assert {bucket.length for bucket in runner._known} == {512}  # one graph for every length


@pytest.mark.parametrize("how", ["raises", "differs"])
def test_flash_attention_that_fails_on_prompts_leaves_the_static_steps(
    how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def prompts(query: Tensor, *rest: Any, **stated: Any) -> Tensor:
        if rest[4] == 1:
            return paged(query, *rest, **stated)
        if how == "raises":
            raise RuntimeError("block_table is not supported here")
        return torch.zeros_like(query)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", prompts)
    runner, twin = graphs("exaone", attention=PagedAttention), graphs("exaone")
    with caplog.at_level(logging.WARNING):
        check(runner)
    assert ["Flash attention is off for prompts" in r.getMessage() for r in caplog.records] == [
        True
    ]
    assert runner.on
    assert not runner.packed
    ours, theirs = Rows(runner, [30, 9]), Rows(twin, [30, 9])
    for counts in ([60, 1], [1, 1]):
        got, plain = runner.forward(ours.step(counts)), twin.inner.forward(theirs.step(counts))
        assert torch.allclose(got, plain, atol=2e-4)


def test_a_prompt_for_which_there_is_no_memory_is_no_reason_against_flash_attention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any, **__: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", full)
    runner = graphs("exaone", attention=PagedAttention)
    rows = Rows(runner, [30])
    with pytest.raises(torch.OutOfMemoryError):
        runner.as_packed(rows.step([50]))
    assert runner.packed


def test_few_tokens_that_do_not_look_far_have_a_short_bucket() -> None:
    inner = FusedRunner(build("exaone"), banked=True)
    shape = CacheShape(3, 2, 16, torch.float32, torch.device("cpu"), 8192, 16384)
    runner = GraphRunner(inner, Arena(shape), attention=PagedAttention, capture=False)
    slot = KVCache(runner.shape, runner.arena).allocate(6000)
    assert slot is not None

    def length(count: int, position: int) -> int:
        places = list(range(position, position + count))
        found = runner.bucket(Step([1] * count, places, [Segment(0, count, position, slot)]))
        assert found is not None
        return found.length

    assert length(1, 0) == length(2, 4094) == 4096
    assert length(1, 4096) == length(9, 0) == 8192


def test_what_would_read_too_much_is_handed_on() -> None:
    runner = graphs("exaone")
    rows = Rows(runner, [300, 200])
    assert runner.bucket(rows.step([1, 30])) is not None
    assert runner.bucket(rows.step([58, 1])) is None  # 57 tokens read 350 places once more
    many = Step(tokens=[0] * 129, positions=[0] * 129)
    assert runner.bucket(many) is None
    elsewhere = KVCache(runner.shape).allocate(10)
    assert elsewhere is not None
    assert runner.bucket(Step([1], [0], [Segment(0, 1, 0, elsewhere)], [0])) is None
    assert SIZES[-1] * PAGE <= GATHERED


def test_buckets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provider.engine.graphs.MOST_GRAPHS", 3)
    runner = graphs("exaone")
    rows = Rows(runner, [20])
    for count in (1, 2, 4, 8, 16):
        runner.forward(rows.step([count]))
    assert [bucket.tokens for bucket in runner._known] == [4, 8, 16]


def test_the_check_at_the_start_takes_what_is_right_and_leaves_the_arena_empty() -> None:
    for name, dtype in (("exaone", torch.float32), ("llama", torch.bfloat16)):
        runner = graphs(name, dtype=dtype)
        check(runner)
        assert runner.arena.largest == runner.arena.spare
        assert runner.figures()["graph_steps"] == 0
    started = start(build("exaone"), runner_of(build("exaone")), LIMITS, capture=False)
    assert started is not None
    assert started.on


class Forgetful(GatheredAttention):
    """Does not store keys, as a graph that was captured with an old address would not."""

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        pass


class Broken(GatheredAttention):
    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize("attention", [Forgetful, Broken])
def test_a_check_that_fails_turns_graphs_off_with_one_warning(
    attention: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = build("exaone")
    monkeypatch.setattr("provider.engine.graph_start.attentions", lambda _: [attention])
    with caplog.at_level(logging.WARNING):
        assert start(model, runner_of(model), LIMITS, capture=False) is None
    (record,) = caplog.records
    assert "CUDA graphs are off" in record.getMessage()


def test_the_next_attention_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("exaone")
    both: list[Any] = [Broken, GatheredAttention]
    monkeypatch.setattr("provider.engine.graph_start.attentions", lambda _: both)
    started = start(model, runner_of(model), LIMITS, capture=False)
    assert started is not None
    assert started._attention is GatheredAttention


def test_a_capture_that_fails_later_costs_no_request(caplog: pytest.LogCaptureFixture) -> None:
    runner = graphs("exaone")
    twin = graphs("exaone")
    ours, theirs = Rows(runner, [20, 9]), Rows(twin, [20, 9])
    runner._attention = Broken
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            got, plain = runner.forward(ours.step([1, 1])), twin.inner.forward(theirs.step([1, 1]))
            assert torch.allclose(got, plain, atol=2e-4)
    assert len(caplog.records) == 1
    assert not runner.on


def test_who_has_graphs() -> None:
    fused: Runner = runner_of(build("exaone"))
    assert graphable(fused)
    assert not graphable(runner_of(build("qwen3")))
    fused.rotary = "dynamic"  # type: ignore[attr-defined]
    assert not graphable(fused)
