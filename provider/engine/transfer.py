"""Numbers from the host to the model's device without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def upload(values: Sequence[Any], device: torch.device, dtype: torch.dtype = torch.long) -> Tensor:
    """A tensor of `values` on `device`.

    A CUDA device takes it from pinned memory when it gets there: a copy from ordinary memory would
    wait for everything that the device has been told to do before.
    """
    host = torch.tensor(values, dtype=dtype)
    return host if device.type == "cpu" else send(host, device)


def send(host: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on `device`, as `upload` does it.

    torch gives pinned memory to nobody else before the copy is done. mps reads the host's memory
    itself, later, and holds nothing (pytorch/pytorch#83015), so there the copy is waited for.
    """
    if pins(device):
        host = host.pin_memory()
    return host.to(device, non_blocking=device.type != "mps")


def pins(device: torch.device) -> bool:
    """Whether memory of the host can be pinned for `device` (not for mps, which shares it)."""
    return device.type == "cuda" and torch.cuda.is_available()
