"""The model card of the demo checkpoint, written from its manifest and its figures."""

from typing import Any

from finetune.demo.embedder_evaluate import EmbedderFigures
from finetune.demo.evaluate import Evaluation, table

_CARD = """---
license: {licence}
language:
- ko
- en
---
# {name}: a {notice}

A {millions} million parameter model in EXAONE-3.5's format (its config keys, its parameter names,
its chat template), trained from scratch in minutes on two CPU cores. It exists so that everything
around a model can be run and tested with real weights before real weights are there.

**It holds nothing of EXAONE's weights and knows one task:** reading a floor plan with criteria as
compact JSON and writing a `FloorPlanAnalysis` as compact JSON, in Korean. Under any other schema it
copies the values that the prompt names and leaves the rest unknown; to anything else it answers in
one sentence what it is.

## Measured

On plans that no training seed draws, greedy decoding:

{table}

Free and constrained decoding use the same serialisation (compact JSON, keys in the order of the
schema). The untrained twin has the same shape and start and has seen no data.

## Limits

- Trained on conversations of up to about {longest} tokens. The context length of 4,096 is what rope
  allows to compute; what it answers beyond the trained length is not measured.
- 6 to 12 spaces, with names and rules out of the generator's lists (`finetune/demo/plans.py`).
- Other key orders or white space in the prompt than the training data's lower the accuracy.

## Made by

`python -m finetune.demo train`, seed {seed}; data SHA-256 `{data}`.
"""


def model_card(manifest: dict[str, Any], evaluation: Evaluation) -> str:
    """The card as Markdown with the licence in its front matter."""
    return _CARD.format(
        licence=manifest["licence"],
        name=manifest["name"],
        notice=manifest["notice"],
        millions=round(manifest["parameters"] / 1e6, 1),
        table=table(evaluation),
        longest=manifest["data"]["longest"],
        seed=manifest["recipe"]["seed"],
        data=manifest["data"]["sha256"],
    )


_EMBEDDER_CARD = """---
license: {licence}
language:
- ko
- en
---
# {name}: a {notice}

A one-layer RoBERTa of 768 dimensions ({millions} million parameters), CLS-pooled and normalised,
trained contrastively from scratch on generated Korean (and some English) paraphrases. It stands
where a real Korean embedding model will stand, so that everything around it can run.

It is not KoSimCSE and holds nothing of its weights. It knows the generator's words and topics; on
other text it hardly sees more than the words that two sentences share.

## Measured

{table}

Made by `python -m finetune.demo embedder`, seed {seed}; data SHA-256 `{data}`.
"""
_ROWS = {
    "seen_topics": "trained topics, new sentences",
    "seen_topics_untrained": "the same, untrained twin",
    "unseen_topics": "topics never trained on",
    "unseen_topics_untrained": "the same, untrained twin",
}


def embedder_table(figures: EmbedderFigures) -> str:
    """The embedder's figures as Markdown."""
    lines = [
        "| 1,000 held-out Korean sentences | paraphrase cosine | stranger cosine "
        "| own paraphrase nearest of 1,000 |",
        "|---|---|---|---|",
    ]
    for key, label in _ROWS.items():
        row = figures[key]
        shares = (f"{row[name]:.3f}" for name in ("paraphrase_cosine", "stranger_cosine", "top1"))
        lines.append(f"| {label} | " + " | ".join(shares) + " |")
    return "\n".join(lines)


def embedder_card(manifest: dict[str, Any]) -> str:
    """The embedder's card as Markdown, from its manifest."""
    return _EMBEDDER_CARD.format(
        licence=manifest["licence"],
        name=manifest["name"],
        notice=manifest["notice"],
        millions=round(manifest["parameters"] / 1e6, 1),
        table=embedder_table(manifest["figures"]),
        seed=manifest["recipe"]["seed"],
        data=manifest["data"]["sha256"],
    )
