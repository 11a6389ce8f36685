"""A process that multiplies in hundreds of lengths does not keep a kernel for each of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

MEASURE = """
import torch
from provider.engine.linear import Linear
from provider.engine.threads import use_threads
use_threads(1)
def resident():
    return int(open('/proc/self/statm').read().split()[1]) * 4096 / 1e6
layers = [Linear(torch.ones(96, 64 * k).bfloat16()) for k in (1, 2, 3, 4)]
for rows in range(1, 20):
    for k, layer in enumerate(layers, 1):
        layer(torch.ones(rows, 64 * k).bfloat16())
before = resident()
for rows in range(20, 180):
    for k, layer in enumerate(layers, 1):
        layer(torch.ones(rows, 64 * k).bfloat16())
print(resident() - before)
"""


@pytest.mark.skipif(
    not (sys.platform == "linux" and torch.ops.mkldnn._is_mkldnn_bf16_supported()),
    reason="needs Linux and oneDNN's bfloat16",
)
def test_memory_does_not_follow_the_number_of_shapes() -> None:
    def grown(**variables: str) -> float:
        environment = {**os.environ, **variables}
        done = subprocess.run(
            [sys.executable, "-c", MEASURE],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return float(done.stdout)

    unbounded = grown(LRU_CACHE_CAPACITY="1024", ONEDNN_PRIMITIVE_CACHE_CAPACITY="1024")
    assert grown() < unbounded / 2
