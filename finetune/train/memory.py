"""Memory of this process on the device that trains: what it holds now and the most it held."""

from __future__ import annotations

import gc
import sys

import psutil  # type: ignore[import-untyped]
import torch


def in_use(device: torch.device) -> int:
    """Bytes that the process holds on `device`; on a CPU its resident memory."""
    if device.type == "cuda":
        return int(torch.cuda.memory_reserved(device))
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    return int(psutil.Process().memory_info().rss)


def peak(device: torch.device) -> int:
    """The most bytes of tensors on a GPU so far, or of resident memory on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def release() -> None:
    """Give back what a finished training held: trainer and callbacks hold each other, and the next
    training of this process needs the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
