"""How many CPU threads the local models may use."""

from __future__ import annotations

import torch


def use_threads(count: int | None) -> None:
    """For the whole process, from now on; None leaves torch's own choice (all physical cores)."""
    if count is not None:
        torch.set_num_threads(count)
