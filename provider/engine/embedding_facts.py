"""What makes an embedding model's vectors its own: pooling, normalisation, prefixes, lengths.

Two models of one width are two spaces, and so is one model pooled in two ways. Where a folder does
not say, sentence-transformers pools by mean, without a word; here a folder says it in
`modules.json` or in `sllm.json`, or the table below knows the model, or it is not loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from provider.engine.model_card import MANIFEST, read_manifest
from provider.errors import ConfigurationError

Pooling = Literal["cls", "mean", "max", "lasttoken"]
"""`cls` is the first token of the last hidden layer, before any pooler."""


@dataclass(frozen=True)
class EmbeddingFacts:
    """`normalize` None leaves it to the folder's `modules.json`. `max_tokens` counts the special
    tokens too. `matryoshka` are widths that the model was trained to be cut to, the full one
    aside."""

    pooling: Pooling | None = None
    normalize: bool | None = None
    query_prefix: str = ""
    passage_prefix: str = ""
    max_tokens: int | None = None
    dimensions: int | None = None
    matryoshka: tuple[int, ...] = ()
    licence: str | None = None


_KOSIMCSE = EmbeddingFacts("cls", True, max_tokens=512, dimensions=768, licence="cc-by-sa-4.0")
# The model itself does not normalise. OpenAI's vectors have unit length and apps rely on it (inner
# product as distance), and the cosine of two vectors stays what it is.
_E5 = EmbeddingFacts("mean", True, "query: ", "passage: ", 512, licence="mit")

KNOWN: dict[str, EmbeddingFacts] = {
    "BM-K/KoSimCSE-roberta": _KOSIMCSE,
    "BM-K/KoSimCSE-roberta-multitask": _KOSIMCSE,
    "BM-K/KoSimCSE-bert": _KOSIMCSE,
    "BM-K/KoSimCSE-bert-multitask": _KOSIMCSE,
    "intfloat/multilingual-e5-small": replace(_E5, dimensions=384),
    "intfloat/multilingual-e5-base": replace(_E5, dimensions=768),
    "intfloat/multilingual-e5-large": replace(_E5, dimensions=1024),
    "BAAI/bge-m3": EmbeddingFacts(
        "cls", True, max_tokens=8192, dimensions=1024, licence="mit"
    ),
    "nlpai-lab/KURE-v1": EmbeddingFacts(
        "cls", True, max_tokens=8192, dimensions=1024, licence="mit"
    ),
    "ibm-granite/granite-embedding-311m-multilingual-r2": EmbeddingFacts(
        "cls", True, max_tokens=32768, dimensions=768,
        matryoshka=(512, 384, 256, 128), licence="apache-2.0",
    ),
    "sentence-transformers/paraphrase-multilingual-mpnet-base-v2": EmbeddingFacts(
        "mean", max_tokens=128, dimensions=768, licence="apache-2.0"
    ),
    "jhgan/ko-sroberta-multitask": EmbeddingFacts("mean", max_tokens=128, dimensions=768),
}  # fmt: skip
"""By hub id, from each model's own card."""


def facts_for(path_or_id: str, folder: Path) -> EmbeddingFacts:
    """What `sllm.json` in the folder states, on top of what the table knows."""
    manifest = read_manifest(folder)
    known = _known(path_or_id, folder, str(manifest.get("name", "")))
    stated = manifest.get("embedding", {})
    if not isinstance(stated, dict):
        raise _wrong(folder, "embedding", stated, "an object")
    return replace(known, **_checked(stated, folder))


def _known(path_or_id: str, folder: Path, name: str) -> EmbeddingFacts:
    """A hub id, a folder that ends in one, or the hub cache's folder of one."""
    cached = [part for part in folder.resolve().parts if part.startswith("models--")]
    names = [
        path_or_id,
        name,
        *(part.removeprefix("models--").replace("--", "/") for part in cached),
    ]
    last = {candidate.rstrip("/").rsplit("/", 1)[-1].lower() for candidate in names if candidate}
    for model, facts in KNOWN.items():
        if model.rsplit("/", 1)[-1].lower() in last:
            return facts
    return EmbeddingFacts()


_KINDS: Mapping[str, tuple[Any, str]] = {
    "normalize": (bool, "true or false"),
    "query_prefix": (str, "text"),
    "passage_prefix": (str, "text"),
    "max_tokens": (int, "a number of tokens"),
    "dimensions": (int, "a number of dimensions"),
    "licence": (str, "text"),
}


def _checked(stated: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in stated.items():
        if key == "pooling":
            if value not in get_args(Pooling):
                raise _wrong(folder, key, value, f"one of {', '.join(get_args(Pooling))}")
        elif key == "matryoshka":
            if not isinstance(value, list) or not all(isinstance(width, int) for width in value):
                raise _wrong(folder, key, value, "a list of widths")
            value = tuple(value)
        elif key not in _KINDS:
            raise _wrong(folder, key, value, f"pooling, matryoshka, {', '.join(_KINDS)}")
        elif not isinstance(value, _KINDS[key][0]):
            raise _wrong(folder, key, value, _KINDS[key][1])
        found[key] = value
    return found


def _wrong(folder: Path, key: str, value: Any, expected: str) -> ConfigurationError:
    return ConfigurationError(
        f"{folder / MANIFEST} has embedding.{key}={value!r}; expected {expected}."
    )
