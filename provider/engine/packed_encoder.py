"""BERT's family on a CPU, without padding.

The texts of a batch are laid end to end: products run over real tokens only, whatever the lengths,
and attention runs text by text. Where only each text's first token is read, the last layer computes
no other. What comes out is what transformers' own model gives, within the precision's rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from provider.engine.packed_layer import STEP, FirstRowLayer, Layer, Norm, Spans

_CLASSES = {"BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel"}
_COUNTED_FROM_PADDING = {"RobertaModel", "XLMRobertaModel", "CamembertModel"}
_ROWS_PER_THREAD = STEP // 2


def can_pack(model: PreTrainedModel) -> bool:
    """Whether this is an encoder that is computed here, on the device where it is."""
    config = model.config
    return (
        type(model).__name__ in _CLASSES
        and model.device.type == "cpu"
        and not config.is_decoder
        and getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
    )


class PackedEncoder:
    """`steps(ids)` gives None after each step of the work and at last what pooling needs.

    `first_only`: pooling takes each text's first token, so that no other row is made.
    """

    pads = False

    def __init__(self, model: PreTrainedModel, products: torch.dtype, *, first_only: bool) -> None:
        loaded: Any = model
        self.config = config = loaded.config
        self.device = loaded.device
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        self.batch_tokens = max(STEP, _ROWS_PER_THREAD * torch.get_num_threads())
        tables = loaded.embeddings
        self._words = tables.word_embeddings.weight.data
        kind = tables.token_type_embeddings.weight.data[0]
        self._positions = tables.position_embeddings.weight.data + kind
        self._norm = Norm.of(tables.LayerNorm)
        counted = type(model).__name__ in _COUNTED_FROM_PADDING
        self._padding = int(config.pad_token_id) if counted else None
        shape = (config.num_attention_heads, config.hidden_act, products)
        layers = list(loaded.encoder.layer)
        self._last = FirstRowLayer(layers.pop(), *shape) if first_only else None
        self._layers = [Layer(layer, *shape) for layer in layers]

    def steps(self, ids: Sequence[Sequence[int]]) -> Iterator[dict[str, Tensor] | None]:
        """`token_embeddings` fp32 [n, longest, hidden] and their `attention_mask`; of the first
        token alone where nothing else is read."""
        spans, end = [], 0
        for row in ids:
            spans.append((end, end + len(row)))
            end += len(row)
        x = self._embedded(ids)
        for layer in self._layers:
            work = layer.steps(x, spans)
            while True:
                try:
                    next(work)
                except StopIteration as done:
                    x = done.value
                    break
                yield None
        yield self._read(x, spans)

    def _embedded(self, ids: Sequence[Sequence[int]]) -> Tensor:
        words = torch.tensor([token for row in ids for token in row])
        places = torch.cat([self._places(torch.tensor(row)) for row in ids])
        return self._norm(embedding(words, self._words).add_(embedding(places, self._positions)))

    def _places(self, row: Tensor) -> Tensor:
        """A token's row in the table of positions. RoBERTa counts from its padding's id on, and a
        padding token that is part of a text does not count."""
        if self._padding is None:
            return torch.arange(len(row))
        real = row != self._padding
        return real.cumsum(0) * real + self._padding

    def _read(self, x: Tensor, spans: Spans) -> dict[str, Tensor]:
        if self._last is not None:
            first = self._last(x, spans)[:, None]
            return {"token_embeddings": first, "attention_mask": first.new_ones(len(first), 1)}
        texts = [x[begin:end] for begin, end in spans]
        mask = [x.new_ones(len(text), dtype=torch.int64) for text in texts]
        return {
            "token_embeddings": pad_sequence(texts, batch_first=True),
            "attention_mask": pad_sequence(mask, batch_first=True),
        }
