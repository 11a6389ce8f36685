"""Tools and tool choice of a Responses request: their shapes, and the chat API's form of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from provider.protocol.freeform import Json
from provider.protocol.messages import NAME_PATTERN, NO_CUSTOM
from provider.protocol.responses.kinds import refused
from provider.protocol.shapes import (
    Array,
    Boolean,
    Either,
    Object,
    OneOf,
    Parameter,
    Shape,
    String,
    Tagged,
)

NOT_HERE = "OpenAI's own tools do not run here; give the model a function."

_TYPE = Parameter(String(), required=True)
_NAME = Parameter(String(1, 64, NAME_PATTERN), required=True)
_DIRECT = Parameter(
    Array(OneOf(("direct", "programmatic"))),
    "Only the model itself calls functions here.",
    "refused",
    nullable=True,
    neutral=(["direct"],),
)

FUNCTION = Object(
    {
        "type": _TYPE,
        "name": _NAME,
        "description": Parameter(String(), "Shown to the model.", nullable=True),
        "parameters": Parameter(
            Json(),
            "Shown to the model and enforced. Null: a call without arguments.",
            nullable=True,
        ),
        "strict": Parameter(Boolean(), "As in the chat API (`tools[].function`).", nullable=True),
        "output_schema": Parameter(
            Json(), "What a function gives back is not checked.", "harmless", nullable=True
        ),
        "defer_loading": Parameter(
            Boolean(),
            "Every function is shown to the model at once.",
            "refused",
            nullable=True,
            neutral=(False,),
        ),
        "allowed_callers": _DIRECT,
        "async": Parameter(
            Boolean(),
            "The model waits for what it called.",
            "refused",
            nullable=True,
            neutral=(False,),
        ),
    }
)

OPENAIS_OWN = (
    "file_search",
    "computer",
    "computer_use_preview",
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
    "mcp",
    "code_interpreter",
    "programmatic_tool_calling",
    "image_generation",
    "local_shell",
    "shell",
    "namespace",
    "tool_search",
    "apply_patch",
)
_REFUSED = {**refused(NOT_HERE, *OPENAIS_OWN), **refused(NO_CUSTOM, "custom")}
TOOL = Tagged("type", {"function": Parameter(FUNCTION), **_REFUSED})

_NAMED = Object({"type": _TYPE, "name": _NAME})
_ALLOWED = Object(
    {
        "type": _TYPE,
        "mode": Parameter(OneOf(("auto", "required")), required=True),
        "tools": Parameter(
            Array(
                Tagged("type", {"function": Parameter(_NAMED), **_REFUSED}),
                1,
            ),
            required=True,
        ),
    }
)
_CHOSEN = (
    "file_search",
    "web_search_preview",
    "web_search_preview_2025_03_11",
    "computer",
    "computer_use",
    "computer_use_preview",
    "image_generation",
    "code_interpreter",
    "mcp",
    "programmatic_tool_calling",
    "apply_patch",
    "shell",
)
TOOL_CHOICE: Shape = Either(
    {
        str: OneOf(("none", "auto", "required")),
        dict: Tagged(
            "type",
            {
                "function": Parameter(_NAMED),
                "allowed_tools": Parameter(_ALLOWED),
                **refused(NOT_HERE, *_CHOSEN),
                **refused(NO_CUSTOM, "custom"),
            },
        ),
    }
)


def chat_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A checked function as the chat API has it."""
    names = ("name", "description", "parameters", "strict")
    return {
        "type": "function",
        "function": {name: tool[name] for name in names if tool.get(name) is not None},
    }


def chat_choice(choice: Any) -> Any:
    """A checked tool choice as the chat API has it."""
    if isinstance(choice, str):
        return choice
    if choice["type"] == "function":
        return _named(choice)
    allowed = {"mode": choice["mode"], "tools": [_named(tool) for tool in choice["tools"]]}
    return {"type": "allowed_tools", "allowed_tools": allowed}


def _named(choice: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": choice["name"]}}


def shown(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A function as a response repeats it: with every field that the SDK's type has."""
    strict = tool.get("strict")
    return {
        "type": "function",
        "name": tool["name"],
        "description": tool.get("description"),
        "parameters": tool.get("parameters"),
        "strict": True if strict is None else strict,
    }
