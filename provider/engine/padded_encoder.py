"""Any encoder of transformers over one padded batch under a mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel


class PaddedEncoder:
    """`steps(ids)` gives the model's last layer in one step.

    `products` is the precision of matrix products; embeddings and norms stay as they are.
    """

    pads = True
    batch_tokens = 4096
    """Of one forward pass, padding included: more gains nothing and costs memory."""

    def __init__(self, model: PreTrainedModel, products: torch.dtype, pad_token: int) -> None:
        self.config = model.config
        self.device: torch.device = model.device
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        self._model, self._products, self._pad_token = model, products, pad_token
        if products is not torch.float32:
            for module in model.modules():
                if isinstance(module, torch.nn.Linear):
                    module.to(products)

    def steps(self, ids: Sequence[Sequence[int]]) -> Iterator[dict[str, torch.Tensor] | None]:
        """`token_embeddings` fp32 [n, longest, hidden] and their `attention_mask`."""
        longest = max(len(row) for row in ids)
        padded = np.full((len(ids), longest), self._pad_token, dtype=np.int64)
        mask = np.zeros((len(ids), longest), dtype=np.int64)
        for index, row in enumerate(ids):
            padded[index, : len(row)] = row
            mask[index, : len(row)] = 1
        features = {
            "input_ids": torch.from_numpy(padded).to(self.device),
            "attention_mask": torch.from_numpy(mask).to(self.device),
        }
        narrow = self._products is not torch.float32
        with torch.autocast(self.device.type, dtype=self._products, enabled=narrow):
            hidden = self._model(**features).last_hidden_state
        yield {"token_embeddings": hidden.float(), "attention_mask": features["attention_mask"]}
