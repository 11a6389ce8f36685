"""Several processes that train one adapter together: which one this is, as the launcher says."""

from __future__ import annotations

import os

LAUNCHER = "SLLM_TRAIN_LAUNCHER"
"""Variable with the process id of `finetune.train.launch`, in the processes that it started."""
UNFINISHED = 75
"""Exit code of a training that saved and stopped before its end (EX_TEMPFAIL of sysexits.h)."""


def world_size() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the one that writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


def local_rank() -> int | None:
    """Number of this process on its machine, None where it is alone."""
    return int(os.environ["LOCAL_RANK"]) if world_size() > 1 else None


def is_launched() -> bool:
    """Whether a launcher (ours, torchrun, accelerate) started this process."""
    return "RANK" in os.environ


def launcher_is_gone() -> bool:
    """Whether our launcher was killed: nobody would end this process any more."""
    launcher = os.environ.get(LAUNCHER)
    return launcher is not None and os.getppid() != int(launcher)
