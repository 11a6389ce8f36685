"""The held-out figures of the demo embedder, beside an untrained twin."""

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, RobertaModel

from finetune.demo.embedder_model import build_encoder, vectors
from finetune.demo.sentences import SEEN_FRAMES, UNSEEN_FRAMES, heldout_pairs

CANDIDATES = 1_000
EmbedderFigures = dict[str, dict[str, float]]


def evaluate_embedder(folder: Path, count: int = CANDIDATES) -> EmbedderFigures:
    """For trained topics in new words, for topics never trained on, and for the untrained twin.

    Each: mean cosine of paraphrases, mean cosine of strangers, and the share of sentences whose
    paraphrase is the nearest of `count`.
    """
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    encoder = RobertaModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32)
    twin = build_encoder(len(tokenizer), seed=0)
    topics = {"seen_topics": SEEN_FRAMES, "unseen_topics": UNSEEN_FRAMES}
    figures = {}
    for name, frames in topics.items():
        pairs = heldout_pairs(count, frames)
        figures[name] = _figures(encoder, tokenizer, pairs)
        figures[f"{name}_untrained"] = _figures(twin, tokenizer, pairs)
    return figures


@torch.inference_mode()
def _figures(
    encoder: RobertaModel, tokenizer: PreTrainedTokenizerFast, pairs: list[tuple[str, str]]
) -> dict[str, float]:
    encoder.eval()
    first, second = (
        torch.cat(
            [vectors(encoder, tokenizer, side[at : at + 100]) for at in range(0, len(side), 100)]
        )
        for side in zip(*pairs, strict=True)
    )
    cosines = first @ second.T
    same = cosines.diagonal()
    others = (cosines.sum() - same.sum()) / (cosines.numel() - len(pairs))
    nearest = (cosines.argmax(dim=1) == torch.arange(len(pairs))).float().mean()
    return {
        "paraphrase_cosine": round(float(same.mean()), 4),
        "stranger_cosine": round(float(others), 4),
        "top1": round(float(nearest), 4),
    }
