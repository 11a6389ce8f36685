"""The table of parameters against the official SDK's types, and the page made from it."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import completion_create_params as text_params
from openai.types import embedding_create_params
from openai.types.chat import completion_create_params
from typing_extensions import is_typeddict

from provider.protocol import echoes
from provider.protocol.compatibility import Row, document, rows
from provider.protocol.parameters import CHAT, EMBEDDINGS
from provider.protocol.responses.parameters import RESPONSES
from provider.protocol.shapes import Object
from provider.protocol.texts import TEXTS

ROOT = Path(__file__).parents[2]

SDK: list[tuple[Any, Object]] = [
    (completion_create_params.CompletionCreateParamsStreaming, CHAT),
    (completion_create_params.CompletionCreateParamsNonStreaming, CHAT),
    (text_params.CompletionCreateParamsStreaming, TEXTS),
    (embedding_create_params.EmbeddingCreateParams, EMBEDDINGS),
]

ECHOES = {
    f"messages.{at}{name}"
    for at, fields_of in (
        ("", {**echoes.CACHE_MARK, **echoes.ASSISTANT}),
        ("content.", echoes.CACHE_MARK),
        ("content.cache_control.", dict.fromkeys(("type", "ttl"))),
        ("cache_control.", dict.fromkeys(("type", "ttl"))),
        ("tool_calls.", echoes.CALL),
        ("tool_calls.function.", echoes.CALLED),
        ("function_call.", echoes.CALLED),
    )
    for name in fields_of
} | {"prediction.content.cache_control" + tail for tail in ("", ".type", ".ttl")}


def fields(kind: Any, path: str = "", seen: frozenset[Any] = frozenset()) -> Iterator[str]:
    """Every field below a TypedDict, whatever unions and arrays are between: `a.b.c`."""
    if is_typeddict(kind):
        if kind not in seen:
            for name, inner in typing.get_type_hints(kind).items():
                yield f"{path}.{name}".strip(".")
                yield from fields(inner, f"{path}.{name}".strip("."), seen | {kind})
        return
    for argument in typing.get_args(kind):
        yield from fields(argument, path, seen)


def plain(row: Row) -> str:
    return re.sub(r"\[\]|\{[^}]*\}", "", row.path)


def table(shape: Object) -> set[str]:
    return {plain(row) for row in rows(shape)}


@pytest.mark.parametrize(("kind", "shape"), SDK)
def test_every_field_of_the_sdk_is_in_the_table(kind: Any, shape: Object) -> None:
    assert set(fields(kind)) - table(shape) == set()


@pytest.mark.skipif(openai.__version__ < "3", reason="the table follows the newest SDK")
@pytest.mark.parametrize(("kind", "shape"), SDK)
def test_the_table_has_no_field_of_its_own(kind: Any, shape: Object) -> None:
    # The types leave open what an allowed tool looks like (`Dict[str, object]`), and answers, which
    # apps send back, have annotations and what SDKs and servers add.
    tools = {path for path in table(shape) if path.startswith("tool_choice.allowed_tools.tools.")}
    vllms = {"stream_options.continuous_usage_stats"}
    open_ended = tools | {"messages.annotations"} | ECHOES | vllms
    assert table(shape) - set(fields(kind)) - open_ended == set()


@pytest.mark.skipif(openai.__version__ < "3", reason="the table follows the newest SDK")
@pytest.mark.parametrize(("kind", "shape"), SDK)
def test_what_the_sdk_calls_optional_may_be_null(kind: Any, shape: Object) -> None:
    for name, hint in typing.get_type_hints(kind).items():
        optional = type(None) in typing.get_args(hint)
        assert shape.fields[name].nullable == (optional or name == "stream"), name


@pytest.mark.parametrize("shape", [CHAT, TEXTS, EMBEDDINGS, RESPONSES])
def test_what_is_not_honoured_has_a_reason(shape: Object) -> None:
    for row in rows(shape):
        assert row.support == "honoured" or row.why, row


def test_the_page_is_current() -> None:
    page = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    assert page == document(), (
        "run: python -m provider.protocol.compatibility > docs/compatibility.md"
    )


def test_refusals_and_harmless_fields_are_as_documented() -> None:
    by_support: dict[str, set[str]] = {}
    for row in rows(CHAT):
        if "." not in row.path:
            by_support.setdefault(row.support, set()).add(row.path)
    assert by_support["refused"] >= {"audio", "reasoning_effort", "verbosity", "moderation"}
    assert by_support["harmless"] >= {"user", "metadata", "store", "service_tier"}
