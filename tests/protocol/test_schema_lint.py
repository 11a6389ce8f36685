"""The lint in both directions, and its command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from provider.protocol.cli import lint as command
from provider.protocol.schema import lint, name_findings, openai_strict_findings


class Room(BaseModel):
    """A model that both sides take."""

    name: str
    area: float | None


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def test_a_portable_schema_has_no_findings() -> None:
    schema = _object(a={"type": "string"}, b={"anyOf": [{"type": "null"}, _object()]})
    assert lint(schema) == []


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "array", "items": {"type": "string"}},
         "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"array\"'."),
        ({"type": "object", "properties": {}, "required": []},
         "In context=(), 'additionalProperties' is required to be supplied and to be false."),
        (_object(a={"type": "object"}),
         "In context=('properties', 'a'), 'additionalProperties' is required to be supplied and "
         "to be false."),
        ({**_object(a={"type": "string"}), "required": []},
         "In context=(), 'required' is required to be supplied and to be an array including every "
         "key in properties. Missing 'a'."),
        (_object(a={"oneOf": [{"type": "string"}], "type": "string"}),
         "In context=('properties', 'a'), 'oneOf' is not permitted."),
        (_object(a={}), "In context=('properties', 'a'), schema must have a 'type' key."),
        (_object(a={"type": "array"}),
         "In context=('properties', 'a'), array schema missing items."),
        (_object(a={"type": "string", "format": "uri"}),
         "In context=('properties', 'a'), 'uri' is not a valid format."),
        (_object(a={"$ref": "#/$defs/x", "default": 1}),
         "In context=('properties', 'a'), $ref cannot have keywords {'default'}."),
        ({**_object(), "anyOf": [_object()]},
         "In context=(), 'anyOf' is not permitted at the root."),
    ],
)  # fmt: skip
def test_openai_refuses_in_its_own_words(schema: Any, message: str) -> None:
    assert message in [f.message for f in openai_strict_findings(schema)]


def test_openais_limits_are_counted() -> None:
    many = _object(a={"type": "string", "enum": [str(i) for i in range(1001)]})
    assert any("1000 enum values" in f.message for f in openai_strict_findings(many))
    long = _object(a={"type": "string", "enum": ["x" * 100 + str(i) for i in range(251)]})
    assert any("15000 characters" in f.message for f in openai_strict_findings(long))
    deep = _object(a={"type": "string"})
    for _ in range(10):
        deep = _object(a=deep)
    assert any("nesting depth of 10" in f.message for f in openai_strict_findings(deep))


def test_every_local_refusal_is_found_and_misspellings_are_noted() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "string", "format": "idn-email"},
            "b": {"type": "object", "minProperties": 3},
            "c": {"type": "string", "maxLenght": 3},
            "d": {"type": "string", "nullable": True},
        },
    }
    found = lint(schema, strict=False)
    assert {(f.keyword, f.path) for f in found if f.refuses} == {
        ("format", "/properties/a"),
        ("minProperties", "/properties/b"),
    }
    assert [f.mend for f in found if not f.refuses] == [
        "Did you mean 'maxLength'?",
        "Use 'type' with \"null\" among its names.",
    ]


def test_names_of_formats_follow_openais_pattern() -> None:
    assert name_findings("floor_plan-1") == []
    assert name_findings("floor plan")
    assert name_findings("x" * 65)


def _file(folder: Path, schema: Any) -> str:
    path = folder / "schema.json"
    path.write_text(json.dumps(schema))
    return str(path)


def test_the_command_prints_path_and_mend(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    result = CliRunner().invoke(command, [_file(tmp_path, schema)])
    assert result.exit_code == 1
    assert "#  OpenAI refuses: In context=(), 'additionalProperties'" in result.output
    assert 'mend: Add "additionalProperties": false.' in result.output


def test_the_command_takes_a_model_and_a_whole_response_format(tmp_path: Path) -> None:
    assert CliRunner().invoke(command, ["tests.protocol.test_schema_lint:Room"]).exit_code == 0
    whole = {"type": "json_schema", "json_schema": {"name": "x", "schema": _object()}}
    assert CliRunner().invoke(command, [_file(tmp_path, whole)]).exit_code == 0


def test_the_command_as_json(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["--json", _file(tmp_path, {"type": "string"})])
    assert json.loads(result.output)[0]["side"] == "openai"


@pytest.mark.parametrize("source", ["missing.json", "nowhere", "json:missing", "nowhere_x:y"])
def test_a_wrong_source_is_one_sentence(source: str) -> None:
    result = CliRunner().invoke(command, [source])
    assert result.exit_code == 2
    assert "Traceback" not in result.output
