"""How many CPU threads the local models may use."""

from __future__ import annotations

import torch

from provider.engine.shape_caches import bound_shape_caches


def use_threads(count: int | None) -> None:
    """For the whole process, from now on; None leaves torch's own choice (all physical cores)."""
    bound_shape_caches()
    if count is not None:
        torch.set_num_threads(count)
