"""The models that the stand-in has, with the facts that decide what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.standin.errors import Refusal


@dataclass(frozen=True)
class Model:
    """`snapshot` is the name that answers carry; `reasoning` models refuse `max_tokens` and
    sampling parameters other than the defaults; `dimensions` marks an embedding model."""

    id: str
    created: int
    snapshot: str
    context: int = 128_000
    longest_answer: int = 16_384
    reasoning: bool = False
    dimensions: int = 0
    shortens: bool = False

    @property
    def card(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "model",
            "created": self.created,
            "owned_by": "openai-internal" if "ada" in self.id else "system",
        }


_ALL = (
    Model("gpt-4o-mini", 1721172741, "gpt-4o-mini-2024-07-18"),
    Model("gpt-4o-mini-2024-07-18", 1721172717, "gpt-4o-mini-2024-07-18"),
    Model("gpt-4o", 1715367049, "gpt-4o-2024-08-06"),
    Model("gpt-4.1-mini", 1744318173, "gpt-4.1-mini-2025-04-14", 1_047_576, 32_768),
    Model("o4-mini", 1744225351, "o4-mini-2025-04-16", 200_000, 100_000, reasoning=True),
    Model("gpt-5-mini", 1754425928, "gpt-5-mini-2025-08-07", 400_000, 128_000, reasoning=True),
    Model(
        "text-embedding-3-small",
        1705948997,
        "text-embedding-3-small",
        8192,
        0,
        False,
        1536,
        shortens=True,
    ),
    Model(
        "text-embedding-3-large",
        1705953180,
        "text-embedding-3-large",
        8192,
        0,
        False,
        3072,
        shortens=True,
    ),
    Model("text-embedding-ada-002", 1671217299, "text-embedding-ada-002-v2", 8192, 0, False, 1536),
)
MODELS = {model.id: model for model in _ALL}


def listing() -> dict[str, Any]:
    return {"object": "list", "data": [model.card for model in _ALL]}


def card(name: str) -> dict[str, Any]:
    if name not in MODELS:
        raise Refusal(
            f"The model '{name}' does not exist",
            status=404,
            param="model",
            code="model_not_found",
        )
    return MODELS[name].card


def named(body: Any, *, embeddings: bool) -> Model:
    """The model that a request asks for; refuses none, an unknown one and one of another kind."""
    name = body.get("model")
    if name is None or name == "":
        raise Refusal("you must provide a model parameter")
    if not isinstance(name, str):
        raise Refusal(
            "Invalid type for 'model': expected a string, but got another type instead.",
            param="model",
            code="invalid_type",
        )
    model = MODELS.get(name)
    if model is None:
        raise Refusal(
            f"The model `{name}` does not exist or you do not have access to it.",
            status=404,
            code="model_not_found",
        )
    if embeddings and not model.dimensions:
        raise Refusal("You are not allowed to generate embeddings from this model", status=403)
    if not embeddings and model.dimensions:
        raise Refusal(
            "This is not a chat model and thus not supported in the v1/chat/completions "
            "endpoint. Did you mean to use v1/completions?",
            status=404,
            param="model",
        )
    return model
