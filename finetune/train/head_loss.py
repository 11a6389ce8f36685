"""The loss through a frozen language-model head, on the learnt tokens only and in pieces.

Full logits of 8,192 tokens over 102,400 entries are 3.4 GB in float32, twice with their gradient.
Here a piece of them exists at a time, and since the head does not learn, the gradient to the hidden
states is made in the forward pass, where the logits are: they are computed once.
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from finetune.train.examples import IGNORED
from finetune.train.packing import MULTIPLE

PIECE = 512
"""Tokens whose logits exist at the same time."""
_OTHER_HEADS = (
    "final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier",
    "lm_head_multiplier",
)  # fmt: skip


@dataclass
class HeadOutput(ModelOutput):
    """Sums over the learnt tokens of a batch: `loss` [] with gradient, `correct` [] of greedy
    predictions, `count` [] of tokens."""

    loss: Any = None
    correct: Any = None
    count: Any = None


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        wanted = hidden.requires_grad
        gradient = torch.empty_like(hidden) if wanted else None
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        correct = torch.zeros((), dtype=torch.long, device=hidden.device)
        for start in range(0, len(labels), PIECE):
            target = labels[start : start + PIECE, None]
            count = len(target)
            piece = _rounded(hidden[start : start + count].to(weight.dtype))
            logits = nn.functional.linear(piece, weight, bias)[:count].float()
            correct += (logits.argmax(-1, keepdim=True) == target).sum()
            chosen = logits.gather(-1, target)
            total = logits.logsumexp(-1, keepdim=True)
            loss += (total - chosen).sum()
            if gradient is not None:
                slope = logits.sub_(total).exp_()
                slope.scatter_add_(-1, target, torch.full_like(chosen, -1.0))
                gradient[start : start + count] = (_rounded(slope).to(weight.dtype) @ weight)[
                    :count
                ]
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * slope, None, None, None


def head_loss(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """`hidden` [tokens, size], `weight` [vocabulary, size], `labels` [tokens]: the sum of the
    negative log-likelihoods and the number of greedy hits. `weight` and `bias` get no gradient."""
    summed: tuple[Tensor, Tensor] = _HeadLoss.apply(  # type: ignore[no-untyped-call]
        hidden, weight.detach(), bias, labels
    )
    return summed


def fits(model: PreTrainedModel) -> bool:
    """Whether the head is a plain product: some architectures scale or cap their logits."""
    config = model.config.get_text_config()
    return all(getattr(config, name, None) in (None, 1.0) for name in _OTHER_HEADS)


def add_head_loss(model: PreTrainedModel) -> None:
    """`model(..., shift_labels=[1, tokens], head_loss=True)` returns a `HeadOutput`; without
    `head_loss` the forward pass is what it was. For the model inside PEFT's."""
    usual = model.forward

    def forward(
        self: PreTrainedModel,
        *args: Any,
        head_loss: bool = False,
        shift_labels: Tensor | None = None,
        **options: Any,
    ) -> Any:
        if not head_loss or shift_labels is None:
            return usual(*args, **options)
        states = self.base_model(*args, use_cache=False, **options).last_hidden_state
        return _output(self.get_output_embeddings(), states, shift_labels)

    model.forward = types.MethodType(forward, model)


def _output(head: Any, states: Tensor, labels: Tensor) -> HeadOutput:
    learnt = labels != IGNORED
    loss, correct = head_loss(states[learnt], head.weight, head.bias, labels[learnt])
    return HeadOutput(loss=loss, correct=correct, count=learnt.sum())


def _rounded(hidden: Tensor) -> Tensor:
    """With rows of zeros up to a multiple, see `finetune.train.packing.MULTIPLE`."""
    return nn.functional.pad(hidden, (0, 0, 0, -len(hidden) % MULTIPLE))
