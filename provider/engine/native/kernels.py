"""The compiled kernels as torch functions, checked before anybody uses them."""

from __future__ import annotations

import ctypes
import logging
import threading
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from provider.engine.native.build import NotBuilt, library

logger = logging.getLogger(__name__)

BLOCK = 64
"""Outputs that lie together in a weight's layout."""

_lock = threading.Lock()


WIDEST = 256
"""Most numbers of an attention head."""

SUMMED = 256
"""Tokens whose weights `Kernels.weigh` sums up together."""


class Row(ctypes.Structure):
    """One row of a packed step: its new tokens, and where its keys and values lie in layer 0.

    `layer` is how many numbers further those of the next layer lie.
    """

    _fields_ = (
        ("offset", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("position", ctypes.c_int64),
        ("keys", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("layer", ctypes.c_int64),
    )


class Kernels:
    """Products of few rows, and attention. Weights are read where oneDNN has put them.

    `rows` is up to how many rows a product should come here: beyond it oneDNN is as fast, or
    faster where the processor multiplies tiles (AMX).
    """

    def __init__(self, built: ctypes.CDLL, rows: int) -> None:
        self.rows = rows
        self._product: Any = built.product
        self._product.argtypes = [
            *([ctypes.c_void_p] * 3 + [ctypes.c_int64] * 2),
            *(ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64),
        ]
        self._product.restype = None
        self._attend: Any = built.attend
        self._attend.argtypes = [
            *(ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64),
            *(ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p),
            *[ctypes.c_int64] * 4,
            *(ctypes.c_float, ctypes.c_int64, ctypes.c_int64),
        ]
        self._attend.restype = None
        self._weigh: Any = built.weigh
        self._weigh.argtypes = [*[ctypes.c_void_p] * 2, ctypes.c_int64, ctypes.c_float]
        self._weigh.restype = ctypes.c_float

    def weigh(self, values: Tensor, scale: float) -> tuple[Tensor, float]:
        """Sums of `exp((values - m) * scale)` by `SUMMED` neighbours of a float32 row, and its
        maximum m. NaN and infinity make the sums that they are in NaN.
        """
        values = values.contiguous()
        sums = values.new_empty(-(-values.shape[0] // SUMMED))
        most = self._weigh(values.data_ptr(), sums.data_ptr(), values.shape[0], scale)
        return sums, most

    def product(self, x: Tensor, weight: int, outputs: int, listed: Tensor | None = None) -> Tensor:
        """`x W^T` in bfloat16 for `x [rows, inputs]` and W at the address `weight`.

        `listed` (int64) are the blocks of 64 outputs that are wanted, back to back; None is all.
        """
        x = x.contiguous()
        rows, inputs = x.shape
        count = outputs // BLOCK if listed is None else listed.shape[0]
        y = x.new_empty((rows, count * BLOCK))
        self._product(
            *(x.data_ptr(), weight, y.data_ptr(), rows, inputs),
            *(None if listed is None else listed.data_ptr(), count, torch.get_num_threads()),
        )
        return y

    def attend(
        self,
        rows: ctypes.Array[Row],
        layer: int,
        query: Tensor,
        kv_heads: int,
        scale: float,
        window: int | None,
    ) -> Tensor:
        """Attention output `[T, heads, head_dim]` for queries of that shape in bfloat16.

        `rows` is a ctypes array of what lies in the step; the head's width must be one of
        `attends`. `window` is how many tokens a query sees, itself included, None is all.
        """
        if query.stride()[1:] != (query.shape[2], 1):
            query = query.contiguous()
        out = query.new_empty(query.shape)
        self._attend(
            *(ctypes.addressof(rows), len(rows), layer),
            *(query.data_ptr(), query.stride(0), out.data_ptr(), out.stride(0)),
            *(query.shape[1], kv_heads, query.shape[2]),
            *(scale, window or 0, torch.get_num_threads()),
        )
        return out


def attends(head_dim: int, dtype: torch.dtype) -> bool:
    """Whether `Kernels.attend` takes heads of this kind."""
    return dtype is torch.bfloat16 and head_dim % 16 == 0 and head_dim <= WIDEST


def packed_address(packed: Tensor, plain: Tensor) -> int | None:
    """Where a weight lies that oneDNN has laid out for itself; None if `product` cannot read it.

    `plain` is the weight before, `[outputs, inputs]`.
    """
    outputs, inputs = plain.shape
    size: int = torch.ops.mkldnn._nbytes(packed)
    if plain.dtype is not torch.bfloat16 or outputs % BLOCK or inputs % 2:
        return None
    if size != plain.nbytes or not hasattr(torch.ops.mkldnn, "data_ptr"):
        return None
    address: int = torch.ops.mkldnn.data_ptr(packed)
    length = BLOCK * inputs
    for block in {0, outputs // BLOCK - 1}:
        held = (ctypes.c_int16 * length).from_address(address + 2 * block * length)
        theirs = torch.frombuffer(held, dtype=torch.int16)
        if not torch.equal(theirs, _blocked(plain[block * BLOCK :][:BLOCK]).view(torch.int16)):
            return None
    return address


def _blocked(rows: Tensor) -> Tensor:
    """64 rows of a weight in the layout `[inputs / 2, 64, 2]`, flat."""
    return rows.reshape(BLOCK, -1, 2).transpose(0, 1).reshape(-1)


@lru_cache(maxsize=1)
def _made() -> Kernels | None:
    if not (torch.cpu._is_avx512_supported() and torch.cpu._is_avx512_bf16_supported()):
        return None
    try:
        kernels = Kernels(library(), 8 if torch.cpu._is_amx_tile_supported() else 48)
    except NotBuilt as error:
        logger.info("the engine runs without kernels of its own: %s", error)
        return None
    if not (_multiplies(kernels) and _attends_rightly(kernels) and _weighs(kernels)):
        logger.warning("the compiled CPU kernels compute something else; they are not used")
        return None
    return kernels


def kernels() -> Kernels | None:
    """The kernels for this machine, compiled when they are first asked for; None without any."""
    with _lock:
        return _made()


def _multiplies(kernels: Kernels) -> bool:
    """Whether products of every number of rows are what they should be, to bfloat16's rounding."""
    chance = torch.Generator().manual_seed(0)
    weight = torch.randn(2 * BLOCK, 96, generator=chance).bfloat16()
    held = torch.cat([_blocked(weight[:BLOCK]), _blocked(weight[BLOCK:])])
    for rows in range(1, 28):
        x = torch.randn(rows, 96, generator=chance).bfloat16()
        exact = x.double() @ weight.double().T
        y = kernels.product(x, held.data_ptr(), 2 * BLOCK)
        if not bool(((y.double() - exact).abs() <= 0.005 * exact.abs() + 0.01).all()):
            return False
        second = kernels.product(x, held.data_ptr(), 2 * BLOCK, torch.tensor([1]))
        if not torch.equal(second, y[:, BLOCK:]):
            return False
    return True


def _attends_rightly(kernels: Kernels) -> bool:
    """Whether attention over a row of 40 tokens is what it should be, for 1 and for 40 new ones."""
    chance = torch.Generator().manual_seed(0)
    held = torch.randn(2, 40, 2, 32, generator=chance).bfloat16()
    query = torch.randn(40, 6, 32, generator=chance).bfloat16()
    key, value = held.double().repeat_interleave(3, 2).transpose(1, 2)
    exact = torch.nn.functional.scaled_dot_product_attention(
        query.double().transpose(0, 1), key, value, is_causal=True
    ).transpose(0, 1)
    for first in (0, 39):
        row = Row(0, 40 - first, first, held[0].data_ptr(), held[1].data_ptr(), 0)
        out = kernels.attend((Row * 1)(row), 0, query[first:], 2, 32**-0.5, None)
        if not bool(((out.double() - exact[first:]).abs() < 0.03).all()):
            return False
    return True


def _weighs(kernels: Kernels) -> bool:
    """Whether the weights of a row are summed up as they should be."""
    chance = torch.Generator().manual_seed(0)
    values = 9 * torch.randn(SUMMED + 85, generator=chance)
    exact = ((values.double() - values.double().max()) * 0.7).exp()
    parts = torch.stack([part.sum() for part in exact.split(SUMMED)])
    sums, most = kernels.weigh(values, 0.7)
    near = (sums.double() - parts).abs() <= 1e-5 * parts
    return most == float(values.max()) and bool(near.all())
