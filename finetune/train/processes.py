"""Several processes that train one adapter together: which one this is, as the launcher says."""

from __future__ import annotations

import os


def world_size() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the one that writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


def local_rank() -> int | None:
    """Number of this process on its machine, None where it is alone."""
    return int(os.environ["LOCAL_RANK"]) if world_size() > 1 else None
