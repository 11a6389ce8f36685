"""Which model a name means, and the list of models."""

from __future__ import annotations

from typing import Any

import pytest

from provider.errors import ApiError, ModelNotFound
from provider.local.models import entries, entry
from provider.local.names import Names
from tests.protocol.components import MODELS, check

NAMES = Names(
    "LGAI/EXAONE:2.4B",
    "BM-K/KoSimCSE",
    frozenset({"floorplan"}),
    {
        "gpt-4o-mini": "default",
        "gpt-4o": "floorplan",
        "text-embedding-3-small": "default",
        "gone": "nothing",
    },
)
FACTS: dict[str, dict[str, Any]] = {
    "LGAI/EXAONE:2.4B": {"licence": "1.1-NC"},
    "BM-K/KoSimCSE": {"licence": "CC BY-SA 4.0"},
    "floorplan": {"parent": "LGAI/EXAONE:2.4B"},
}


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("LGAI/EXAONE:2.4B", "LGAI/EXAONE:2.4B"),
        ("gpt-4o-mini", "LGAI/EXAONE:2.4B"),
        ("gpt-4o-mini-2024-07-18", "LGAI/EXAONE:2.4B"),
        ("gpt-4o", "floorplan"),
        ("floorplan", "floorplan"),
    ],
)
def test_who_answers_a_chat(asked: str, served: str) -> None:
    assert NAMES.chat(asked) == served


@pytest.mark.parametrize("asked", ["BM-K/KoSimCSE", "text-embedding-3-small"])
def test_who_embeds(asked: str) -> None:
    assert NAMES.embed(asked) == "BM-K/KoSimCSE"


@pytest.mark.parametrize("asked", ["gpt-5", "gone", "default", "gpt-4o-mini-2024"])
def test_unknown_names(asked: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        NAMES.chat(asked)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


@pytest.mark.parametrize("asked", ["BM-K/KoSimCSE", "text-embedding-3-small"])
def test_an_embedding_model_does_not_chat(asked: str) -> None:
    with pytest.raises(ApiError) as caught:
        NAMES.chat(asked)
    assert caught.value.status == 404
    assert "not a chat model" in caught.value.message


@pytest.mark.parametrize(
    ("asked", "status"), [("gpt-4o", 403), ("floorplan", 403), ("gpt-4o-mini", 403), ("x", 404)]
)
def test_a_chat_model_does_not_embed(asked: str, status: int) -> None:
    with pytest.raises(ApiError) as caught:
        NAMES.embed(asked)
    assert caught.value.status == status


def test_a_star_is_every_other_name() -> None:
    names = Names("base", "embed", aliases={"*": "default"})
    assert names.chat("whatever") == "base"
    assert names.embed("whatever") == "embed"
    with pytest.raises(ApiError, match="not a chat model"):
        names.chat("text-embedding-9")


def test_the_list_has_base_adapters_embedder_and_aliases() -> None:
    listed = entries(NAMES, FACTS, 1)
    check({"object": "list", "data": listed}, MODELS)
    assert {model["id"]: model["root"] for model in listed} == {
        "LGAI/EXAONE:2.4B": "LGAI/EXAONE:2.4B",
        "floorplan": "floorplan",
        "BM-K/KoSimCSE": "BM-K/KoSimCSE",
        "gpt-4o-mini": "LGAI/EXAONE:2.4B",
        "gpt-4o": "floorplan",
        "text-embedding-3-small": "BM-K/KoSimCSE",
    }
    assert entry("gpt-4o-mini", listed)["licence"] == "1.1-NC"


def test_a_model_that_is_not_loaded_is_not_listed() -> None:
    ids = [model["id"] for model in entries(NAMES, {"BM-K/KoSimCSE": {}}, 1)]
    assert ids == ["floorplan", "BM-K/KoSimCSE", "text-embedding-3-small"]


@pytest.mark.parametrize("asked", ["LGAI/EXAONE:2.4B", "LGAI%2FEXAONE%3A2.4B"])
def test_ids_with_slashes_and_colons(asked: str) -> None:
    assert entry(asked, entries(NAMES, FACTS, 1))["id"] == "LGAI/EXAONE:2.4B"


def test_one_that_is_not_there() -> None:
    with pytest.raises(ModelNotFound):
        entry("nope", entries(NAMES, FACTS, 1))
