"""Picks the runner for a model, and makes sure that it computes what the model does."""

from __future__ import annotations

import logging
from typing import Any

import torch
from transformers import PreTrainedModel

from provider.engine.attention import Segment
from provider.engine.cache import CacheShape, KVCache
from provider.engine.fused import FusedRunner, fits
from provider.engine.linear import pack_modules
from provider.engine.native.kernels import Kernels, kernels
from provider.engine.runner import ModelRunner, Runner, Step, attention_heads
from provider.engine.shape_caches import bound_shape_caches
from provider.errors import ConfigurationError

logger = logging.getLogger(__name__)

_RUNNER = "sllm_runner"
_AS_NARROW = 0.3
"""How far bitsandbytes' own int8 products may be from the fused; nonsense is beyond 1."""


def runner_of(model: PreTrainedModel, *, native: bool = True) -> Runner:
    """The fastest way to run steps of this model; made once per model.

    `native` lets it use kernels that are compiled for this machine, where there are any.

    Raises ConfigurationError for an architecture whose attention the engine cannot reproduce.
    """
    bound_shape_caches()
    if _RUNNER not in vars(model):
        own = own_kernels(model) if native else None
        vars(model)[_RUNNER] = _fused(model, own) if fits(model) else _general(model, own)
    runner: Runner = vars(model)[_RUNNER]
    return runner


def own_kernels(model: PreTrainedModel) -> Kernels | None:
    """The kernels that are compiled for this machine, if it has any for this model's numbers."""
    fits_them = model.device.type == "cpu" and model.dtype is torch.bfloat16
    return kernels() if fits_them else None


def _fused(model: PreTrainedModel, own: Kernels | None) -> Runner:
    """The fused forward pass; but on a device that it computes wrongly on, the model's modules.

    On CPUs the tests compare the two. Elsewhere this does, on a few tokens.
    """
    runner = FusedRunner(model, own)
    if tested_on(model.device):
        return runner
    try:
        check_attention(model, runner, _AS_NARROW if narrows_inputs(model) else None)
    except Exception as error:  # noqa: BLE001  (a driver's, a library's: none may stop a start)
        logger.warning(
            "%s runs through its own modules on %s, which takes longer: the fused forward pass "
            "failed its check (%s: %s).",
            type(model).__name__,
            model.device,
            type(error).__name__,
            error,
        )
        return _general(model, own)
    return runner


def tested_on(device: torch.device) -> bool:
    """Whether the tests have run on such a device."""
    return device.type == "cpu"


def narrows_inputs(model: PreTrainedModel) -> bool:
    """Whether the model's own int8 products narrow what they multiply, which the fused do not."""
    return any(type(module).__name__ == "Linear8bitLt" for module in model.modules())


def _general(model: PreTrainedModel, own: Kernels | None) -> ModelRunner:
    runner = ModelRunner(model, own)
    try:
        check_attention(model, runner)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"{type(model).__name__} cannot be run by the engine ({type(error).__name__}: "
            f"{error}); expected a causal language model made of attention layers alone; serve "
            "this model with vLLM and set LOCAL_LLM_BASE_URL."
        ) from error
    embedding: Any = model.get_input_embeddings()
    pack_modules(model, shared=embedding.weight, kernels=own)
    return runner


def check_attention(model: PreTrainedModel, runner: Runner, most: float | None = None) -> None:
    """Refuses a model whose attention is not what `packed_attention` computes.

    Reads a few tokens in two parts through `runner` and at once through the model itself. Raises
    ConfigurationError if the logits differ by more than rounding, or than `most`.
    """
    count, first = 12, 7
    tokens = [i % model.config.get_text_config().vocab_size for i in range(3, 3 + count)]
    layers, kv_heads, head_dim = attention_heads(model)
    shape = CacheShape(layers, kv_heads, head_dim, model.dtype, model.device, 256, 256, 256)
    slot = KVCache(shape).allocate(count)
    if slot is None:
        raise RuntimeError("an empty cache has no room for twelve tokens")
    parts = []
    for start, stop in ((0, first), (first, count)):
        new = stop - start
        segment = Segment(0, new, start, slot)
        places = list(range(start, stop))
        parts.append(runner.forward(Step(tokens[start:stop], places, [segment], list(range(new)))))
    with torch.inference_mode():
        at_once = model(input_ids=torch.tensor([tokens], device=model.device), use_cache=False)
    plain = at_once.logits[0].float()
    error = float((torch.cat(parts) - plain).norm() / plain.norm())
    most = most or (0.05 if model.dtype.itemsize < 4 else 1e-3)
    if not error < most:
        raise ConfigurationError(
            f"{type(model).__name__} attends in a way that the engine does not reproduce (relative "
            f"error {error:.3f}); expected a causal language model with plain, grouped or "
            "sliding-window attention; serve this model with vLLM and set LOCAL_LLM_BASE_URL."
        )
