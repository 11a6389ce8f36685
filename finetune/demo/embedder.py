"""Training of the demo embedder: in-batch contrastive learning on generated paraphrases.

Each text is drawn towards its paraphrase and away from every other text of the batch (Gao et al.
2021, "SimCSE"; the loss that sentence-transformers calls multiple negatives ranking).
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import PreTrainedTokenizerFast, RobertaModel

from finetune.demo.artifacts import EMBEDDER_NOTICE, write_manifest
from finetune.demo.card import embedder_card
from finetune.demo.corpus import text_hash
from finetune.demo.embedder_evaluate import EmbedderFigures, evaluate_embedder
from finetune.demo.embedder_model import build_encoder, save_embedder, train_tokenizer, vectors
from finetune.demo.sentences import training_pairs


@dataclass(frozen=True)
class EmbedderRecipe:
    """Everything that decides the result."""

    seed: int = 0
    steps: int = 600
    pairs: int = 96
    rate: float = 6e-4
    warm_up: int = 40
    temperature: float = 0.05


def make_embedder(folder: Path, recipe: EmbedderRecipe) -> EmbedderFigures:
    """Train, write the folder with manifest and card, and return the held-out figures."""
    data = training_pairs(recipe.seed, recipe.steps * recipe.pairs)
    tokenizer = train_tokenizer(text for pair in data[:20_000] for text in pair)
    encoder = build_encoder(len(tokenizer), recipe.seed)
    train_embedder(encoder, tokenizer, data, recipe)
    save_embedder(encoder, tokenizer, folder)
    figures = evaluate_embedder(folder)
    manifest = {
        "demo": True,
        "name": "embedder-demo",
        "description": EMBEDDER_NOTICE,
        "notice": EMBEDDER_NOTICE,
        "licence": "apache-2.0",
        "parameters": encoder.num_parameters(),
        "recipe": asdict(recipe),
        "data": {"sha256": text_hash(text for pair in data for text in pair), "pairs": len(data)},
        "embedding": {"pooling": "cls", "normalize": True},
        "figures": figures,
    }
    write_manifest(folder, manifest)
    (folder / "README.md").write_text(embedder_card(manifest), encoding="utf-8")
    return figures


def train_embedder(
    encoder: RobertaModel,
    tokenizer: PreTrainedTokenizerFast,
    data: list[tuple[str, str]],
    recipe: EmbedderRecipe,
) -> float:
    """Train in place, every pair once; returns the last loss."""
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=recipe.rate, weight_decay=0.01)
    targets, loss = torch.arange(recipe.pairs), torch.zeros(())
    encoder.train()
    with tqdm(range(recipe.steps), desc="embedder", unit="step") as bar:
        for step in bar:
            pairs = data[step * recipe.pairs : (step + 1) * recipe.pairs]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                both = vectors(encoder, tokenizer, [text for pair in pairs for text in pair])
            scores = both[0::2] @ both[1::2].T / recipe.temperature
            loss = nn.functional.cross_entropy(scores, targets)
            loss = (loss + nn.functional.cross_entropy(scores.T, targets)) / 2
            loss.backward()
            nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            share = min((step + 1) / recipe.warm_up, (recipe.steps - step) / recipe.steps)
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate * share
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            bar.set_postfix(loss=f"{float(loss.detach()):.3f}")
    encoder.eval()
    return float(loss.detach())
