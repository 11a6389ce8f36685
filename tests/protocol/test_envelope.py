"""Calls as one JSON object under a schema, and back into the form that the call reader knows."""

from __future__ import annotations

import itertools
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.errors import BadGateway
from provider.protocol.deltas import CallArguments, CallStart, Text
from provider.protocol.envelope import Transcriber, schema
from provider.protocol.tools import CallReader
from provider.protocol.toolspec import Function

ROOM = {"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]}
NESTED: dict[str, Any] = {
    "type": "object",
    "properties": {"rooms": {"type": "array", "items": {"$ref": "#/$defs/room"}}},
    "required": ["rooms"],
    "$defs": {"room": ROOM},
}
TREE: dict[str, Any] = {
    "type": "object",
    "properties": {"$ref": {"type": "string"}, "next": {"$ref": "#"}},
    "required": ["$ref"],
    "additionalProperties": False,
}
CITY = {"type": "object", "properties": {"city": {"enum": ["서울", {"$ref": "#/x"}]}}}


def function(name: str, parameters: Any) -> Function:
    return Function(name, None, parameters, f"tools[{name}]")


FUNCTIONS = [function("plan", NESTED), function("tree", TREE), function("city", CITY)]


def calls(*named: tuple[str, Any]) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": value} for name, value in named]}


@pytest.mark.parametrize(
    ("instance", "valid"),
    [
        (calls(("plan", {"rooms": [{"kind": "a"}]})), True),
        (calls(("plan", {"rooms": [{"kind": 1}]})), False),
        (calls(("plan", {"rooms": [{}]})), False),
        (calls(("tree", {"$ref": "#", "next": {"$ref": "x"}})), True),
        (calls(("tree", {"$ref": "#", "next": {}})), False),
        (calls(("city", {"city": {"$ref": "#/x"}})), True),
        (calls(("city", {"city": {"$ref": "#/$defs/args2/x"}})), False),
        (calls(("plan", {"rooms": []}), ("city", {"city": "서울"})), True),
        (calls(("other", {})), False),
        (calls(), False),
    ],
)
def test_the_schema_holds_each_call_to_its_function(instance: Any, valid: bool) -> None:
    assert jsonschema.Draft202012Validator(
        schema(FUNCTIONS, parallel=True)
    ).is_valid(instance) is valid  # fmt: skip


def test_one_call_where_they_are_not_parallel_and_an_answer_where_text_is_bound() -> None:
    one = jsonschema.Draft202012Validator(schema(FUNCTIONS, parallel=False))
    assert not one.is_valid(calls(("city", {}), ("city", {})))
    either = jsonschema.Draft202012Validator(schema(FUNCTIONS, parallel=True, answer=NESTED))
    assert either.is_valid({"rooms": [{"kind": "a"}]})
    assert either.is_valid(calls(("city", {})))
    assert not either.is_valid({"rooms": [{}]})


def read(pieces: list[str], *, or_text: bool = False) -> tuple[str, list[tuple[str, str]]]:
    transcriber, reader = Transcriber(or_text=or_text), CallReader(after_text=not or_text)
    written = [*map(transcriber.feed, pieces), transcriber.close("stop")]
    text, found = "", list[tuple[str, str]]()
    for delta in [d for piece in written for d in reader.feed(piece)] + reader.close():
        if isinstance(delta, Text):
            text += delta.text
        elif isinstance(delta, CallStart):
            found.append((delta.name, ""))
        elif isinstance(delta, CallArguments):
            found[-1] = (found[-1][0], found[-1][1] + delta.text)
    return text, found


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
CALLS = st.lists(
    st.tuples(st.from_regex(r"[a-zA-Z0-9_-]{1,9}", fullmatch=True),
              st.dictionaries(st.text(), VALUES, max_size=3)),
    min_size=1, max_size=3,
)  # fmt: skip


@given(CALLS, st.sampled_from([None, 0, 2, "\t"]), st.data(), st.booleans())
def test_every_text_is_read_however_it_is_blanked_and_cut(
    made: list[tuple[str, Any]], indent: Any, data: st.DataObject, or_text: bool
) -> None:
    text = json.dumps(calls(*made), indent=indent, ensure_ascii=False) + "\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    edges = [0, *cuts, len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    said, found = read(pieces, or_text=or_text)
    assert said == ""
    assert [(name, json.loads(arguments)) for name, arguments in found] == made


@pytest.mark.parametrize("text", ['{"tool_box": "<tool_call>"}', "{}", '{"tool', " {"])
def test_another_answer_passes_as_it_is(text: str) -> None:
    assert read(list(text), or_text=True) == (text, [])


@pytest.mark.parametrize(
    "text",
    [
        "I cannot do that.",
        '{"tool_calls": {}}',
        '{"tool_calls": [{"name": "a"}]}',
        '{"tool_calls": [{"name": "a", "arguments": {}}]} and more',
        '{"tool_calls": [{"name": "a", "arguments": {}}]',
        '{"tool_calls":' + " " * 5000,
        '{"tool_calls": [' + " " * 5000,
        "",
    ],
)
def test_a_server_that_ignores_the_schema_is_found_out(text: str) -> None:
    with pytest.raises(BadGateway, match="json_schema"):
        read([text])


def test_a_cut_call_stays_cut() -> None:
    transcriber = Transcriber()
    written = transcriber.feed('{"tool_calls": [{"name": "a", "arguments": {"b": [1')
    assert written + transcriber.close("length") == '<tool_call>{"name":"a","arguments":{"b": [1'
