"""The table of a Responses request against the official SDK's types: no field, no kind of item or
tool is forgotten, and what is honoured has exactly the SDK's fields."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

import openai
import pytest
from openai.types.responses import (
    input_token_count_params,
    response_create_params,
    response_includable,
    response_input_item_param,
    tool_param,
)
from typing_extensions import is_typeddict

from provider.protocol.responses.items import ITEM
from provider.protocol.responses.parameters import INPUT_TOKENS, RESPONSES, Include
from provider.protocol.responses.tools import TOOL, TOOL_CHOICE
from provider.protocol.shapes import Either, Object, Parameter, Shape, Tagged

NEWEST = pytest.mark.skipif(openai.__version__ < "3", reason="the table follows the newest SDK")


def hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def types_of(kind: Any) -> set[str]:
    """The values of `type` that a TypedDict has."""
    found = hints(kind).get("type", "")
    inner = [argument for argument in typing.get_args(found) if argument is not type(None)]
    return {
        value
        for argument in inner
        for value in (typing.get_args(argument) if typing.get_args(argument) else (argument,))
    }


def by_type(union: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for kind in filter(is_typeddict, typing.get_args(union)):
        for name in types_of(kind):
            found.setdefault(name, []).append(kind)
    return found


ITEMS = by_type(response_input_item_param.ResponseInputItemParam)
TOOLS = by_type(tool_param.ToolParam)
CHOICES = by_type(response_create_params.ToolChoice)
OF_COUNT = input_token_count_params.InputTokenCountParams
CREATE = response_create_params.ResponseCreateParamsStreaming
BEYOND = {"presence_penalty", "frequency_penalty"}
"""Not in the SDK's types, but the API takes them."""


def variants(shape: Shape) -> Mapping[str, Parameter]:
    tagged = shape.shapes[dict] if isinstance(shape, Either) else shape
    assert isinstance(tagged, Tagged)
    return tagged.variants


@pytest.mark.parametrize(("kind", "table"), [(CREATE, RESPONSES), (OF_COUNT, INPUT_TOKENS)])
def test_every_field_of_the_sdk_is_in_the_table(kind: Any, table: Object) -> None:
    assert set(hints(kind)) - set(table.fields) == set()


@NEWEST
@pytest.mark.parametrize(("kind", "table"), [(CREATE, RESPONSES), (OF_COUNT, INPUT_TOKENS)])
def test_the_table_has_no_field_of_its_own(kind: Any, table: Object) -> None:
    assert set(table.fields) - set(hints(kind)) == BEYOND & set(table.fields)


@pytest.mark.parametrize(("kinds", "shape"), [(ITEMS, ITEM), (TOOLS, TOOL), (CHOICES, TOOL_CHOICE)])
def test_every_kind_of_the_sdk_is_in_the_table(kinds: dict[str, Any], shape: Shape) -> None:
    assert set(kinds) - set(variants(shape)) == set()


def fields_of(shape: Shape) -> set[str]:
    if isinstance(shape, Tagged):
        return {name for variant in shape.variants.values() for name in fields_of(variant.shape)}
    assert isinstance(shape, Object)
    return set(shape.fields)


@NEWEST
@pytest.mark.parametrize(
    ("kinds", "shape", "name"),
    [(ITEMS, ITEM, name) for name, one in ITEM.variants.items() if one.support != "refused"]
    + [(TOOLS, TOOL, "function"), (CHOICES, TOOL_CHOICE, "function")]
    + [(CHOICES, TOOL_CHOICE, "allowed_tools")],
)
def test_what_is_read_has_the_sdks_fields(
    kinds: dict[str, list[Any]], shape: Shape, name: str
) -> None:
    of_the_sdk = {field for kind in kinds[name] for field in hints(kind)}
    assert fields_of(variants(shape)[name].shape) - {"id"} == of_the_sdk - {"id"}


def test_what_may_be_included() -> None:
    of_the_sdk = set(typing.get_args(response_includable.ResponseIncludable))
    assert of_the_sdk <= set(Include().names)


def test_null_means_not_given() -> None:
    for name, parameter in RESPONSES.fields.items():
        assert parameter.nullable != (name in ("model", "input")), name
