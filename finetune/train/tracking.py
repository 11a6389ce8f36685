"""Figures for TensorBoard and Weights & Biases: one run for each training, however often it is
resumed."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
from typing import Any

from finetune.durable import write_durably
from finetune.train.config import TrainConfig
from finetune.train.processes import is_first
from provider.engine.model_card import read_json
from provider.errors import ConfigurationError

RUNS = "tracking.json"
_PACKAGES = {"wandb": "wandb", "tensorboard": "finetune"}
"""The package that each needs, and the extra that brings it."""


def check_trackers(config: TrainConfig) -> None:
    """Raises `ConfigurationError` where something is wanted that is not installed."""
    wanted = {"wandb": config.wandb != "off", "tensorboard": config.tensorboard}
    for name, extra in _PACKAGES.items():
        if wanted[name] and importlib.util.find_spec(name) is None:
            raise ConfigurationError(
                f"{name}={getattr(config, name)!r} needs the package {name}; install it with "
                f"pip install 'sllm-provider[{extra}]', or set {name} to off."
            )


def begin_tracking(config: TrainConfig) -> None:
    """Opens this training's Weights & Biases run, the same one in every session.

    transformers' callback logs into whatever run is open. Raises `ConfigurationError` where the
    service cannot be reached or wants a login.
    """
    if config.wandb == "off" or not is_first():
        return
    import wandb

    try:
        wandb.init(
            project=os.environ.get("WANDB_PROJECT", "sllm"),
            id=_run_id(config),
            resume="allow",
            name=config.name,
            dir=str(config.output),
            mode=config.wandb,
        )
    except wandb.errors.Error as error:
        raise ConfigurationError(
            f"wandb={config.wandb!r} cannot begin ({str(error).rstrip('.')}); log in with "
            "`wandb login`, or set wandb to offline and upload later."
        ) from error


def end_tracking(config: TrainConfig) -> None:
    """The next training of this process gets a run of its own."""
    if config.wandb != "off":
        import wandb

        wandb.finish()


def tensorboard(config: TrainConfig, step: int) -> Any:
    """transformers' callback with a writer for this training's folder. What an earlier session
    wrote after `step`, the checkpoint that this one begins at, is about to happen again: the writer
    says so, and TensorBoard forgets it."""
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations.integration_utils import TensorBoardCallback

    folder = config.output / "tensorboard"
    purge = step + 1 if step else None
    return TensorBoardCallback(SummaryWriter(str(folder), purge_step=purge))


def _run_id(config: TrainConfig) -> str:
    """Kept beside the checkpoints. WANDB_RUN_ID, where it is set, wins."""
    path = config.output / RUNS
    known = read_json(path).get("wandb") if path.is_file() else None
    chosen = os.environ.get("WANDB_RUN_ID") or known or secrets.token_hex(4)
    if chosen != known:
        write_durably(path, json.dumps({"wandb": chosen}).encode())
    return str(chosen)
