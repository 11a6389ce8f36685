"""One layer of BERT's family (attention, then norms after each sum) over texts laid end to end.

Work comes in steps of at most `STEP` rows, so that whoever drives it can do something else between
them. Sums and norms are fp32; products have the precision that their weights are given in.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention
from transformers.activations import ACT2FN

from provider.engine.linear import Linear

STEP = 512
"""Rows of one step. Products are no faster with more."""

Spans = Sequence[tuple[int, int]]
"""Where each text's rows begin and end."""


class Activated(Linear):
    """`act(x W^T + b)`; GELU is computed as part of the product where oneDNN multiplies."""

    def __init__(self, weight: Tensor, bias: Tensor, name: str) -> None:
        super().__init__(weight, bias)
        self._fused = self.packed and name == "gelu"
        self._activation = gelu if name == "gelu" else ACT2FN[name]

    def __call__(self, x: Tensor) -> Tensor:
        if self._fused:
            found: Tensor = self._multiply(x, self.weight, self.bias, "gelu", [], "none")
            return found
        activated: Tensor = self._activation(super().__call__(x))
        return activated


@dataclass(frozen=True)
class Norm:
    """LayerNorm of a sum, in fp32."""

    weight: Tensor
    bias: Tensor
    eps: float

    @classmethod
    def of(cls, module: nn.LayerNorm) -> Norm:
        return cls(module.weight.data.float(), module.bias.data.float(), module.eps)

    def __call__(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class AfterAttention:
    """The part of a layer that is each row's own: output product, norm, feed-forward, norm."""

    out: Linear
    attention_norm: Norm
    up: Activated
    down: Linear
    norm: Norm
    products: torch.dtype

    @classmethod
    def of(cls, layer: Any, activation: str, products: torch.dtype) -> AfterAttention:
        return cls(
            _linear(layer.attention.output.dense, products),
            Norm.of(layer.attention.output.LayerNorm),
            Activated(*_given(layer.intermediate.dense, products), activation),
            _linear(layer.output.dense, products),
            Norm.of(layer.output.LayerNorm),
            products,
        )

    def __call__(self, x: Tensor, attended: Tensor) -> Tensor:
        """`x` fp32 and what its rows attended to, [n, hidden]; the layer's output, fp32."""
        x = self.attention_norm(x + self.out(attended))
        return self.norm(x + self.down(self.up(x.to(self.products))))


class Layer:
    """A whole layer: every row attends to the rows of its text."""

    def __init__(self, layer: Any, heads: int, activation: str, products: torch.dtype) -> None:
        own = layer.attention.self
        given = [_given(module, products) for module in (own.query, own.key, own.value)]
        self._qkv = Linear(torch.cat([w for w, _ in given]), torch.cat([b for _, b in given]))
        self._after = AfterAttention.of(layer, activation, products)
        self._heads, self._products = heads, products

    def steps(self, x: Tensor, spans: Spans) -> Generator[None, None, Tensor]:
        """`x` [rows, hidden] to the layer's output, fp32."""
        qkv = x.new_empty((len(x), 3 * x.shape[1]), dtype=self._products)
        for begin, end in _parts(0, len(x)):
            qkv[begin:end] = self._qkv(x[begin:end].to(self._products))
            yield
        attended = yield from self._attend(qkv, spans)
        found = torch.empty_like(x)
        for begin, end in _parts(0, len(x)):
            found[begin:end] = self._after(x[begin:end], attended[begin:end])
            yield
        return found

    def _attend(self, qkv: Tensor, spans: Spans) -> Generator[None, None, Tensor]:
        width = qkv.shape[1] // 3
        attended = qkv.new_empty((len(qkv), width))
        q, k, v = (
            part.view(len(qkv), self._heads, -1).transpose(0, 1) for part in qkv.split(width, 1)
        )
        done = 0
        for first, last in spans:
            keys, values = k[None, :, first:last], v[None, :, first:last]
            for begin, end in _parts(first, last):
                found = scaled_dot_product_attention(q[None, :, begin:end], keys, values)
                attended[begin:end] = found[0].transpose(0, 1).reshape(end - begin, width)
                done += end - begin
                if done >= STEP:
                    done = 0
                    yield
        return attended


class FirstRowLayer:
    """A last layer of which only each text's first row is read (CLS pooling).

    One query per text and head, so keys and values need not be made: with k_t = W_k x_t the score
    q.k_t is (W_k^T q).x_t, and the weighted sum of values is W_v times the weighted sum of x_t. The
    key's bias adds the same to every score of a query and falls out; weights sum to one, so the
    value's bias is added once.
    """

    def __init__(self, layer: Any, heads: int, activation: str, products: torch.dtype) -> None:
        own = layer.attention.self
        self._query = _linear(own.query, products)
        weight, _ = _given(own.key, products)
        self._key = weight.view(heads, -1, weight.shape[1]).contiguous()
        weight, bias = _given(own.value, products)
        self._value = weight.view(heads, -1, weight.shape[1]).transpose(1, 2).contiguous()
        self._value_bias = bias
        self._after = AfterAttention.of(layer, activation, products)
        self._heads, self._products = heads, products
        self._scale = self._key.shape[1] ** -0.5

    def __call__(self, x: Tensor, spans: Spans) -> Tensor:
        """`x` [rows, hidden] to the output's first row of each text, [texts, hidden], fp32."""
        first = x[torch.tensor([begin for begin, _ in spans])]
        narrow = x.to(self._products)
        query = self._query(first.to(self._products))
        asked = query.view(len(first), self._heads, -1).transpose(0, 1) @ self._key
        met = torch.empty_like(asked)
        for index, (begin, end) in enumerate(spans):
            rows = narrow[None, None, begin:end]
            met[:, index] = scaled_dot_product_attention(
                asked[None, None, :, index], rows, rows, scale=self._scale
            )[0, 0]
        attended = (met @ self._value).transpose(0, 1).reshape(len(first), -1) + self._value_bias
        return self._after(first, attended)


def _parts(begin: int, end: int) -> Iterator[tuple[int, int]]:
    for start in range(begin, end, STEP):
        yield start, min(start + STEP, end)


def _given(module: nn.Linear, products: torch.dtype) -> tuple[Tensor, Tensor]:
    return module.weight.data.to(products), module.bias.data.to(products)


def _linear(module: nn.Linear, products: torch.dtype) -> Linear:
    return Linear(*_given(module, products))
