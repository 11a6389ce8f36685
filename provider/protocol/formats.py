"""How the text of an answer is bound: OpenAI's `response_format`, and what other servers call
`structured_outputs`, `guided_...` or `grammar`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from provider.protocol import values
from provider.protocol.freeform import Json
from provider.protocol.shapes import Array, Boolean, Either, Object, Parameter, String

Kind = Literal["text", "json_object", "json_schema", "regex", "choice", "grammar"]

JSON: tuple[Kind, ...] = ("json_object", "json_schema")
"""Formats whose text is JSON."""

_SOURCE = String(1)
_SCHEMA = Either({dict: Json(), str: _SOURCE})
_CHOICES = Array(String(1), 1, 1024)
_COMPACT = "JSON has no blanks between its tokens in any case."


def _optional(shape: Any, why: str = "") -> Parameter:
    return Parameter(shape, why, nullable=True)


_STRUCTURED = Object(
    {
        "json": _optional(_SCHEMA),
        "regex": _optional(_SOURCE),
        "choice": _optional(_CHOICES),
        "grammar": _optional(_SOURCE),
        "json_object": _optional(Boolean()),
        "disable_any_whitespace": Parameter(
            Boolean(), _COMPACT, "harmless", nullable=True, neutral=(True, False)
        ),
    }
)

STRUCTURED: dict[str, Parameter] = {
    "structured_outputs": _optional(_STRUCTURED, "vLLM's; one of its fields binds the text."),
    "guided_json": _optional(_SCHEMA, "Older vLLM's; the schema as an object or as JSON text."),
    "guided_regex": _optional(_SOURCE, "Older vLLM's; the whole text, Rust `regex` syntax."),
    "guided_choice": _optional(_CHOICES, "Older vLLM's; the text is one of these."),
    "guided_grammar": _optional(_SOURCE, "Older vLLM's; a grammar in GBNF or Lark."),
    "json_schema": _optional(_SCHEMA, "llama.cpp's and SGLang's; as `guided_json`."),
    "regex": _optional(_SOURCE, "SGLang's; as `guided_regex`."),
    "grammar": _optional(_SOURCE, "llama.cpp's; as `guided_grammar`."),
    "ebnf": _optional(_SOURCE, "SGLang's; as `guided_grammar`."),
}
"""The fields that bind an answer's text beside `response_format`; at most one of all these."""

_KINDS: dict[str, str] = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "json_schema": "json",
    "regex": "regex",
    "grammar": "grammar",
    "ebnf": "grammar",
}


@dataclass(frozen=True, slots=True)
class Format:
    """How the answer's text is bound: not at all (`text`), to any JSON object, to JSON under
    `schema`, or to `source`: the regular expression, the grammar, or the choices as JSON text.

    `param` is the parameter that said so.
    """

    type: Kind = "text"
    schema: Any = None
    strict: bool = False
    description: str | None = None
    source: str = ""
    param: str = "response_format.json_schema.schema"


FREE = Format()


def bound(body: Mapping[str, Any]) -> Format:
    """The format that a checked body asks for.

    Raises `InvalidRequest` for more than one, and for a schema that is no JSON object.
    """
    stated = [*_structured(body)]
    form = _response_format(body.get("response_format"))
    if form.type != "text":
        stated.append(form)
    if len(stated) > 1:
        raise values.conflict(
            stated[0].param,
            f"'{stated[0].param}' and '{stated[1].param}' both bind the answer's text; send one.",
            "invalid_parameter_combination",
        )
    return stated[0] if stated else form


def _structured(body: Mapping[str, Any]) -> list[Format]:
    found = [
        _FORMATS[kind](body[name], name)
        for name, kind in _KINDS.items()
        if body.get(name) is not None
    ]
    for kind, value in (body.get("structured_outputs") or {}).items():
        if kind in _FORMATS and value is not None and value is not False:
            found.append(_FORMATS[kind](value, f"structured_outputs.{kind}"))
    return found


def _json(value: Any, param: str) -> Format:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise values.invalid(param, "the string is not JSON.") from None
        if not isinstance(value, dict):
            raise values.wrong_type(param, "an object", value)
        Json().check(value, param, lambda _: None)
    return Format("json_schema", value, param=param)


_FORMATS: dict[str, Callable[[Any, str], Format]] = {
    "json": _json,
    "json_object": lambda value, param: Format("json_object", param=param),
    "regex": lambda value, param: Format("regex", source=value, param=param),
    "choice": lambda value, param: Format("choice", source=json.dumps(value), param=param),
    "grammar": lambda value, param: Format("grammar", source=value, param=param),
}


def _response_format(raw: Mapping[str, Any] | None) -> Format:
    if raw is None or raw["type"] == "text":
        return FREE
    if raw["type"] == "json_object":
        return Format("json_object", param="response_format")
    form = raw["json_schema"]
    schema = form.get("schema")
    kind = (schema or {}).get("type", "object")
    if kind != "object":
        raise values.conflict(
            "response_format",
            f"Invalid schema for response_format '{form['name']}': schema must be a JSON Schema of "
            f"'type: \"object\"', got 'type: \"{values.shown(kind)}\"'.",
        )
    return Format("json_schema", schema, bool(form.get("strict")), form.get("description"))
