"""GET /v1/models and GET /v1/models/{id}: base model, adapters, embedding model, aliases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any
from urllib.parse import unquote

from provider.errors import ModelNotFound
from provider.local.names import Names

OWNER = "sllm"


def entries(names: Names, facts: dict[str, dict[str, Any]], created: int) -> list[dict[str, Any]]:
    """The model objects. `facts` are further fields by served name (licence, device, ...); aliases
    carry those of what they stand for, and say which in `root`."""
    return [
        _entry(name, root, facts.get(root, {}), created) for name, root in _served(names, facts)
    ]


def entry(asked: str, listed: list[dict[str, Any]]) -> dict[str, Any]:
    """One model by its id, percent-encoded or not. Raises `ModelNotFound`."""
    for name in (asked, unquote(asked)):
        for model in listed:
            if model["id"] == name:
                return model
    raise ModelNotFound.of(unquote(asked))


def card_facts(card: Any) -> dict[str, Any]:
    """A model card as fields beside OpenAI's."""
    return {name: value for name, value in asdict(card).items() if name != "id" and value}


def _served(names: Names, facts: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """(id, what answers) of everything whose model is at hand."""
    for name in (names.language, *sorted(names.adapters), names.embedding):
        if name in facts or name in names.adapters:
            yield name, name
    for alias in names.aliases or {}:
        target = names.alias_of(alias)
        if alias != "*" and target is not None and target in facts:
            yield alias, target


def _entry(name: str, root: str, facts: dict[str, Any], created: int) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": OWNER,
        "root": root,
        **facts,
    }
