"""Training of the demo checkpoint from scratch: minutes on two cores.

Muon for the matrices of the layers, AdamW for embeddings and norms, bf16 autocast. Early on every
token of the prompt counts as a target too, which teaches names and numbers sooner; later only the
answer does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer
from tqdm import tqdm  # type: ignore[import-untyped]

from finetune.demo import attention
from finetune.demo.batches import Batch, Encoded, batches
from provider.engine.exaone import ExaoneForCausalLM


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result; it is written into the manifest as it is."""

    seed: int = 0
    samples: int = 15_000
    steps: int = 1_200
    plan_rows: int = 8
    other_rows: int = 5
    muon_rate: float = 2e-3
    adam_rate: float = 2e-3
    warm_up: int = 30
    prompt_weight: float = 0.3
    prompt_until: float = 0.3

    @classmethod
    def quick(cls, seed: int = 0) -> "Recipe":
        """A tenth of the work, for trying the pipeline; what it has learnt is far from enough."""
        return cls(seed=seed, samples=3_000, steps=120)


def train(
    model: ExaoneForCausalLM,
    plans: Sequence[Encoded],
    others: Sequence[Encoded],
    recipe: Recipe,
) -> float:
    """Train `model` in place; returns the mean loss of the last fifty steps.

    Each step takes one batch of plans and one of the shorter tasks, summed into one gradient.
    """
    torch.manual_seed(recipe.seed)
    random = Random(recipe.seed)
    stream = zip(
        batches(plans, recipe.plan_rows, random),
        batches(others, recipe.other_rows, random),
        strict=False,
    )
    optimisers = _optimisers(model, recipe)
    attention.register()
    usual, model.config._attn_implementation = model.config._attn_implementation, attention.NAME
    model.train()
    losses: list[float] = []
    with tqdm(total=recipe.steps, desc="train", unit="step") as bar:
        for step, pair in zip(range(recipe.steps), stream, strict=False):
            weight = recipe.prompt_weight if step < recipe.prompt_until * recipe.steps else 0.0
            losses.append(_step(model, pair, weight))
            _update(model, optimisers, _rate(step, recipe))
            bar.update()
            bar.set_postfix(loss=f"{sum(losses[-50:]) / len(losses[-50:]):.4f}")
    model.train(False)
    model.config._attn_implementation = usual
    return sum(losses[-50:]) / len(losses[-50:])


def _optimisers(model: nn.Module, recipe: Recipe) -> list[Optimizer]:
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and ".h." in name]
    rest = [p for name, p in model.named_parameters() if not (p.dim() == 2 and ".h." in name)]
    return [
        Muon(matrices, lr=recipe.muon_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        AdamW(rest, lr=recipe.adam_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _rate(step: int, recipe: Recipe) -> float:
    """Share of the peak rate: up over the warm-up, then level, then linearly down to zero."""
    up = (step + 1) / recipe.warm_up
    down = (recipe.steps - step) / (0.6 * recipe.steps)
    return min(up, 1.0, down)


def _update(model: nn.Module, optimisers: list[Optimizer], share: float) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            peak = group.setdefault("peak", group["lr"])
            group["lr"] = peak * share
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


def _step(model: ExaoneForCausalLM, pair: tuple[Batch, Batch], prompt_weight: float) -> float:
    """Gradients of one step; returns its loss per weighted token."""
    weights = [_weights(batch, prompt_weight) for batch in pair]
    total = sum(float(weight.sum()) for weight in weights)
    value = 0.0
    for batch, weight in zip(pair, weights, strict=True):
        picked = weight > 0
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.transformer(input_ids=batch.ids, use_cache=False).last_hidden_state
            logits = model.lm_head(hidden[:, :-1][picked])
        losses = nn.functional.cross_entropy(
            logits.float(), batch.ids[:, 1:][picked], reduction="none"
        )
        loss = (losses * weight[picked]).sum() / total
        loss.backward()
        value += float(loss.detach())
    return value


def _weights(batch: Batch, prompt_weight: float) -> Tensor:
    """How much each next-token prediction counts, [rows, length - 1]."""
    answer, text = batch.answer[:, 1:].float(), batch.text[:, 1:].float()
    return answer + prompt_weight * (text - answer)
