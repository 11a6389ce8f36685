"""Decides at the start whether an engine runs with CUDA graphs, and proves it on some steps."""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from provider.engine.arena import Arena
from provider.engine.attention import Segment
from provider.engine.cache import KVCache, Slot
from provider.engine.device import free_memory
from provider.engine.fused import FusedRunner
from provider.engine.graphs import SIZES, GraphRunner, reserve
from provider.engine.limits import Limits
from provider.engine.memory import cache_shape
from provider.engine.paged import PagedAttention
from provider.engine.runner import Runner, Step
from provider.engine.static_step import GatheredAttention

logger = logging.getLogger(__name__)

_LENGTHS = (5, 40, 300)
"""Tokens of the rows that are checked."""
_COUNTS = {1: [1], 2: [1, 1]}
"""Tokens that a checked step adds to the rows where its bucket has no room for two, one and one."""
_GROWTH = 2 * (len(SIZES) + 2)
"""Most tokens that the check adds to a row."""


def graphs_for(model: PreTrainedModel, runner: Runner, limits: Limits) -> GraphRunner | None:
    """A runner with graphs that has been checked, or None where there are none to be had.

    None without a word: another device than CUDA, an architecture that does not run fused (other
    than Llama's), `limits.graphs` off. None with a warning: no room, or a check that failed.
    """
    if not limits.graphs or model.device.type != "cuda" or not graphable(runner):
        return None
    return start(model, runner, limits, capture=True)


def graphable(runner: Runner) -> bool:
    """Whether a runner's steps can have shapes that do not change."""
    if not isinstance(runner, FusedRunner):
        return False
    return runner.rotary not in (
        "dynamic",
        "longrope",
    )  # their angles depend on the longest position


def start(
    model: PreTrainedModel, runner: Any, limits: Limits, *, capture: bool
) -> GraphRunner | None:
    """`graphs_for` on any device; without `capture` the steps run as they are."""
    problem = ""
    for attention in attentions(model):
        try:
            return _checked(model, runner, limits, attention, capture)
        except Exception as error:  # noqa: BLE001  (a driver's, a library's: none may stop a start)
            problem = f"{type(error).__name__}: {error}"  # the error itself would hold the arena
        gc.collect()
    logger.warning(
        "CUDA graphs are off: the check at the start failed (%s); answers are as they were, "
        "steps of few tokens take longer.",
        problem,
    )
    return None


def attentions(model: PreTrainedModel) -> list[type[GatheredAttention]]:
    """What may read the arena here, the fastest first."""
    flash = model.device.type == "cuda" and model.dtype.itemsize == 2
    if flash and torch.cuda.get_device_capability(model.device) >= (8, 0):
        return [PagedAttention, GatheredAttention]
    return [GatheredAttention]


def _checked(
    model: PreTrainedModel,
    runner: FusedRunner,
    limits: Limits,
    attention: type[GatheredAttention],
    capture: bool,
) -> GraphRunner:
    plain = cache_shape(model, limits, runner.weight_bytes)
    room = reserve(runner, plain)
    shape = cache_shape(model, limits, runner.weight_bytes, room)
    arena = Arena(shape)
    logger.info(
        "%.2f GiB on %s hold keys and values (%d tokens), %.2f GiB are left for graphs, adapters "
        "and steps; LOCAL_LLM_MEMORY bounds what the engine takes of the device.",
        arena.kv.nbytes / 2**30,
        shape.device,
        arena.spare,
        free_memory(shape.device) / 2**30,
    )
    graphs = GraphRunner(runner, arena, attention=attention, capture=capture, room=room)
    check(graphs)
    return graphs


@dataclass(slots=True)
class _Row:
    """A slot and how many of its tokens are known."""

    slot: Slot
    length: int = 0


def check(graphs: GraphRunner) -> None:
    """Computes some steps both ways, in slots of their own. Raises RuntimeError if they differ.

    The largest bucket comes first: later captures fit into the memory that it took. One is replayed
    once more with other tokens. Where one graph serves every length, all sizes are captured here,
    so that no request waits for a capture.
    """
    shape = graphs.shape
    cache = KVCache(shape, graphs.arena)
    lengths = [min(length, shape.capacity - _GROWTH) for length in _LENGTHS]
    pairs = [(cache.allocate(n + _GROWTH), cache.allocate(n + _GROWTH)) for n in lengths]
    ours = [_Row(one) for one, other in pairs if one and other]
    theirs = [_Row(other) for one, other in pairs if one and other]
    if not ours:
        raise RuntimeError(f"{shape.budget} tokens of KV cache have no room for it")
    _check_prompts(graphs, ours, theirs, lengths)
    others = SIZES[:2] + SIZES[3:-1] if graphs.paged else ()
    for size in (SIZES[-1], SIZES[2], SIZES[2], *reversed(others)):
        _compare(graphs, ours, theirs, size)
    graphs.arena.clear()
    graphs.steps = 0


def _check_prompts(
    graphs: GraphRunner, ours: list[_Row], theirs: list[_Row], lengths: list[int]
) -> None:
    """Reads the rows both ways. A packed step that differs is only without flash attention then."""
    vocabulary = graphs.inner.vocabulary
    expected = graphs.inner.forward(_step(theirs, lengths, vocabulary))
    before = [replace(row) for row in ours]
    got = graphs.as_packed(_step(ours, lengths, vocabulary))
    error = _difference(got, expected)
    if not error < _tolerated(graphs):
        graphs.packed = False
        logger.warning("Flash attention is off for prompts: it differs by %.3g.", error)
        graphs.inner.forward(_step(before, lengths, vocabulary))


def _compare(graphs: GraphRunner, ours: list[_Row], theirs: list[_Row], size: int) -> None:
    """One step of both kinds; in larger buckets the first row has a second token in it."""
    counts = _COUNTS.get(size, [2, 1, 1])[: len(ours)]
    vocabulary = graphs.inner.vocabulary
    expected = graphs.inner.forward(_step(theirs, counts, vocabulary))
    step = _step(ours, counts, vocabulary)
    bucket = graphs.bucket(step, size)
    if bucket is None:
        raise RuntimeError("there is no memory for the first graph")
    got = graphs.replay(step, bucket)
    error = _difference(got, expected)
    if not error < _tolerated(graphs):
        raise RuntimeError(f"a replayed step differs by {error:.3g} from the same step without")


def _difference(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


def _tolerated(graphs: GraphRunner) -> float:
    return 0.05 if graphs.arena.kv.dtype.itemsize < 4 else 1e-3


def _step(rows: list[_Row], counts: list[int], vocabulary: int) -> Step:
    """The next `counts` tokens of the rows; every logit of short ones is wanted."""
    step = Step()
    for number, (row, count) in enumerate(zip(rows, counts, strict=False)):
        offset, stop = len(step.tokens), row.length + count
        places = range(row.length, stop)
        step.tokens += [(3 + 17 * number + 7 * place) % vocabulary for place in places]
        step.positions += places
        step.segments.append(Segment(offset, count, row.length, row.slot))
        step.wanted += range(len(step.tokens) - min(count, 2), len(step.tokens))
        row.length = stop
    return step
