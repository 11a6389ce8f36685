"""Picks the runner for a model."""

from __future__ import annotations

from transformers import PreTrainedModel

from provider.engine.fused import FusedRunner, fits
from provider.engine.runner import ModelRunner, Runner

_RUNNER = "sllm_runner"


def runner_of(model: PreTrainedModel) -> Runner:
    """The fastest way to run steps of this model; made once per model."""
    if _RUNNER not in vars(model):
        vars(model)[_RUNNER] = FusedRunner(model) if fits(model) else ModelRunner(model)
    runner: Runner = vars(model)[_RUNNER]
    return runner
