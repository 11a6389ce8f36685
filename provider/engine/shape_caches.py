"""What torch's libraries are told through the environment before they are loaded.

Bounds what torch and oneDNN keep for every shape that they have multiplied.

Each keeps up to 1,024 compiled kernels, one per number of rows and weight shape, of about 0.3 MB
each in bfloat16; steps come in hundreds of lengths, so that a server grows by several hundred MB.
"""

from __future__ import annotations

import os
import sys

CAPACITY = 128
"""Kernels. One that is made again costs under a millisecond, for a step that takes hundreds."""

_VARIABLES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")


def bound_shape_caches() -> None:
    """For the whole process, if it has not multiplied yet; what the environment says stays."""
    for name in _VARIABLES:
        os.environ.setdefault(name, str(CAPACITY))


def let_idle_threads_sleep() -> None:
    """For a process that has not loaded torch yet (OpenMP reads it once); what the environment says
    stays.

    Idle threads spin otherwise, and take the cores on which requests are answered: on two busy
    cores a small model's forward pass cost four to six times the processor time.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
