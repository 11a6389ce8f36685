"""What some tests need of the machine."""

from __future__ import annotations

import shutil

import pytest
import torch

needs_kernels = pytest.mark.skipif(
    shutil.which("cc") is None or not torch.cpu._is_avx512_bf16_supported(),
    reason="needs a C compiler and AVX512-BF16",
)
