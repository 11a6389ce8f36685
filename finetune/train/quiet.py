"""What the libraries would print, and where they would send things, before they are imported."""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings

from finetune.train.config import TrainConfig
from provider.errors import ConfigurationError


def quiet() -> None:
    """Warnings that no user can act on are left out."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("bitsandbytes", "transformers.modeling_utils", "transformers.trainer"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(torch|transformers|trl|peft|accelerate)\.")


def tracking_ended(config: TrainConfig) -> None:
    """The next training of this process gets a Weights & Biases run of its own."""
    if config.wandb != "off":
        import wandb

        wandb.finish()


def tracked(config: TrainConfig) -> None:
    """TensorBoard and Weights & Biases write into the folder of this run.

    Raises `ConfigurationError` where Weights & Biases is wanted and not installed.
    """
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(config.output / "tensorboard")
    if config.wandb != "off":
        if importlib.util.find_spec("wandb") is None:
            raise ConfigurationError(
                f"wandb={config.wandb!r} needs the package wandb; install it with "
                "pip install 'sllm-provider[wandb]', or set wandb to off."
            )
        os.environ["WANDB_MODE"] = config.wandb
        os.environ["WANDB_DIR"] = str(config.output)
        os.environ.setdefault("WANDB_PROJECT", "sllm")
