"""Tools and tool choice: their shapes and their frozen form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from provider.protocol import values
from provider.protocol.freeform import Json
from provider.protocol.messages import NAME_PATTERN, NO_CUSTOM
from provider.protocol.shapes import (
    Array,
    Boolean,
    Either,
    Object,
    OneOf,
    Parameter,
    String,
    Tagged,
)

_NAME = Parameter(String(1, 64, NAME_PATTERN), required=True)
_FREE = Parameter(String())
_STRICT = (
    "With it, a schema that cannot be enforced in full is refused; without, as at OpenAI, what "
    "cannot be is left to the model, and named in `x-ignored-params`."
)

_FUNCTION_FIELDS = {
    "name": _NAME,
    "description": Parameter(String(), "Shown to the model."),
    "parameters": Parameter(
        Json(), "Shown to the model and enforced. Absent: a call without arguments."
    ),
}
FUNCTION = Object(_FUNCTION_FIELDS)
_FUNCTION_TOOL = Object(
    {
        "type": Parameter(String(), required=True),
        "function": Parameter(
            Object(
                {
                    **_FUNCTION_FIELDS,
                    "strict": Parameter(Boolean(), _STRICT, nullable=True),
                }
            ),
            required=True,
        ),
    }
)
_GRAMMAR = Object({"definition": _FREE, "syntax": _FREE})
_FORMAT = Object({"type": _FREE, "grammar": Parameter(_GRAMMAR)})
_CUSTOM_TOOL = Object(
    {
        "type": Parameter(String(), required=True),
        "custom": Parameter(
            Object({"name": _FREE, "description": _FREE, "format": Parameter(_FORMAT)})
        ),
    }
)
TOOL = Tagged(
    "type",
    {
        "function": Parameter(_FUNCTION_TOOL),
        "custom": Parameter(_CUSTOM_TOOL, NO_CUSTOM, "refused"),
    },
)

_NAMED = Object({"name": _NAME})
_ALLOWED = Object(
    {
        "mode": Parameter(OneOf(("auto", "required")), required=True),
        "tools": Parameter(
            Array(
                Object(
                    {
                        "type": Parameter(OneOf(("function",)), required=True),
                        "function": Parameter(_NAMED, required=True),
                    }
                ),
                1,
            ),
            required=True,
        ),
    }
)
_TYPE = Parameter(String(), required=True)
TOOL_CHOICE = Either(
    {
        str: OneOf(("none", "auto", "required")),
        dict: Tagged(
            "type",
            {
                "function": Parameter(
                    Object({"type": _TYPE, "function": Parameter(_NAMED, required=True)})
                ),
                "allowed_tools": Parameter(
                    Object({"type": _TYPE, "allowed_tools": Parameter(_ALLOWED, required=True)})
                ),
                "custom": Parameter(
                    Object({"type": _TYPE, "custom": Parameter(Object({"name": _FREE}))}),
                    NO_CUSTOM,
                    "refused",
                ),
            },
        ),
    }
)
FUNCTION_CALL = Either({str: OneOf(("none", "auto")), dict: _NAMED})


@dataclass(frozen=True, slots=True)
class Function:
    """A function the model may call; `parameters` is its JSON Schema, `path` its parameter, and
    `strict` whether all of it must be enforced, here as at OpenAI."""

    name: str
    description: str | None
    parameters: Mapping[str, Any]
    path: str
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Tools:
    """What may be called in a turn.

    `declared` are described to the model, `callable` may be called. `mode` is `none` (text only),
    `auto` (text or calls), `required` (one call at least) or `named` (exactly one, forced).
    `legacy` means the request spelt them `functions`.
    """

    declared: tuple[Function, ...] = ()
    callable: tuple[Function, ...] = ()
    mode: Literal["none", "auto", "required", "named"] = "none"
    parallel: bool = True
    legacy: bool = False


NO_TOOLS = Tools()

_BESIDE_REF = frozenset({"$schema", "$id", "id", "$defs", "definitions", "title", "description"})
_NO_ARGUMENTS: Mapping[str, Any] = {
    "type": "object",
    "properties": {},
    "additionalProperties": False,
}


def tools(body: Mapping[str, Any]) -> Tools:
    """The tools of a checked body. Raises `InvalidRequest` for choices that do not fit them."""
    _check_together(body)
    legacy = body.get("functions") is not None
    declared = _legacy(body["functions"]) if legacy else _declared(body.get("tools") or ())
    _check_unique(declared)
    if not declared:
        return NO_TOOLS
    param = "function_call" if legacy else "tool_choice"
    mode, names = _chosen(body.get(param, "auto"))
    allowed = tuple(item for item in declared if names is None or item.name in names)
    for name in names or ():
        if name not in {item.name for item in declared}:
            where = "functions" if legacy else "tools"
            raise values.conflict(
                param, f"Tool choice '{name}' not found in '{where}' parameter.", "invalid_value"
            )
    parallel = not legacy and mode != "named" and body.get("parallel_tool_calls") is not False
    return Tools(declared, allowed, mode, parallel, legacy)


def _check_together(body: Mapping[str, Any]) -> None:
    for name in ("tool_choice", "parallel_tool_calls"):
        if body.get(name) is not None and body.get("tools") is None:
            raise values.conflict(
                name,
                f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified.",
            )
    if body.get("function_call") is not None and body.get("functions") is None:
        raise values.conflict(
            "function_call",
            "Invalid value for 'function_call': 'function_call' is only allowed when 'functions' "
            "are specified.",
        )
    if body.get("functions") is not None and body.get("tools") is not None:
        raise values.conflict(
            "functions",
            "Setting 'tools' and 'functions' at the same time is not supported.",
            "invalid_parameter_combination",
        )


def _legacy(raw: Any) -> tuple[Function, ...]:
    return tuple(_function(item, f"functions[{index}]") for index, item in enumerate(raw))


def _declared(raw: Any) -> tuple[Function, ...]:
    return tuple(
        _function(item["function"], f"tools[{index}].function") for index, item in enumerate(raw)
    )


def _function(raw: Mapping[str, Any], path: str) -> Function:
    parameters = raw.get("parameters", _NO_ARGUMENTS)
    kind = parameters.get("type", "object")
    if kind != "object":
        raise values.conflict(
            f"{path}.parameters",
            f"Invalid schema for function '{raw['name']}': schema must be a JSON Schema of "
            f"'type: \"object\"', got 'type: \"{values.shown(kind)}\"'.",
            "invalid_function_parameters",
        )
    return Function(
        raw["name"],
        raw.get("description"),
        _of_objects(parameters),
        f"{path}.parameters",
        bool(raw.get("strict")),
    )


def _of_objects(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Up to draft 7, whose names begin so, `$ref` hides a type that stands beside it."""
    older = str(parameters.get("$schema")).startswith("http://json-schema.org/")
    if not older or "$ref" not in parameters:
        return {"type": "object", **parameters}
    beside = {name: value for name, value in parameters.items() if name in _BESIDE_REF}
    return {"type": "object", **beside, "allOf": [{"$ref": parameters["$ref"]}]}


def _check_unique(declared: tuple[Function, ...]) -> None:
    seen: set[str] = set()
    for item in declared:
        if item.name in seen:
            path = item.path.removesuffix(".parameters") + ".name"
            raise values.invalid(path, f"the name '{item.name}' is already taken.")
        seen.add(item.name)


_WORDS: dict[str, Literal["none", "auto", "required"]] = {
    "none": "none",
    "auto": "auto",
    "required": "required",
}


def _chosen(
    choice: Any,
) -> tuple[Literal["none", "auto", "required", "named"], tuple[str, ...] | None]:
    """Mode, and the names that may be called (None: all)."""
    if isinstance(choice, str):
        return _WORDS[choice], None
    if "allowed_tools" in choice:
        allowed = choice["allowed_tools"]
        return _WORDS[allowed["mode"]], tuple(t["function"]["name"] for t in allowed["tools"])
    return "named", (choice.get("function", choice)["name"],)
