"""Input items of a Responses request: their shapes, and which of them are refused.

Source: https://platform.openai.com/docs/api-reference/responses/create (`input`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from provider.protocol.freeform import Json
from provider.protocol.messages import NAME_PATTERN, TEXT, TEXT_ONLY
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

NO_TOOL = "It belongs to a tool other than a function, and no other runs here; leave it out."
NOT_COMPACTED = "Nothing is compacted here; send the conversation's own items."

_TYPE = Parameter(String(), required=True)
_ID = Parameter(String(), "Kept.", nullable=True)
_STATUS = Parameter(
    OneOf(("in_progress", "completed", "incomplete")), "Kept; every item is read.", nullable=True
)


def _text(kind: str, **further: Parameter) -> Parameter:
    return Parameter(
        Object({"type": _TYPE, "text": Parameter(String(), required=True), **further}), kind
    )


_INPUT_TEXT = {
    "input_text": _text("", prompt_cache_breakpoint=TEXT.fields["prompt_cache_breakpoint"])
}
_MEDIA = refused(TEXT_ONLY, "input_image", "input_file", "input_audio")
_ANSWER_PARTS = {
    "output_text": _text(
        "",
        annotations=Parameter(
            Array(Json()), "Citations; not read.", "harmless", nullable=True, neutral=([],)
        ),
        logprobs=Parameter(Array(Json()), "Not read.", "harmless", nullable=True, neutral=([],)),
    ),
    "refusal": Parameter(
        Object({"type": _TYPE, "refusal": Parameter(String(), required=True)}), "Read as text."
    ),
}


def _message(parts: Mapping[str, Parameter], why: str = "", **further: Parameter) -> Parameter:
    content = Either({str: String(), list: Array(Tagged("type", parts))})
    fields = {
        "type": Parameter(String(), nullable=True),
        "role": _TYPE,
        "content": Parameter(content, required=True),
        "id": _ID,
        "status": _STATUS,
    }
    return Parameter(Object({**fields, **further}), why)


_PHASE = Parameter(
    OneOf(("commentary", "final_answer")), "Not shown to the model.", "harmless", nullable=True
)
MESSAGE = Tagged(
    "role",
    {
        "user": _message({**_INPUT_TEXT, **_MEDIA}),
        "assistant": _message(_ANSWER_PARTS, phase=_PHASE),
        "system": _message({**_INPUT_TEXT, **_MEDIA}),
        "developer": _message({**_INPUT_TEXT, **_MEDIA}, "Read as system."),
    },
)

_CALLER = Parameter(
    Object({"type": Parameter(OneOf(("direct",)), required=True)}),
    "Only the model itself calls functions here.",
    nullable=True,
)
_NAMESPACE = Parameter(
    String(), "Functions have no namespaces here.", "refused", nullable=True, neutral=("",)
)
FUNCTION_CALL = Object(
    {
        "type": _TYPE,
        "call_id": Parameter(String(1), required=True),
        "name": Parameter(String(1, 64, NAME_PATTERN), required=True),
        "arguments": Parameter(String(), required=True),
        "id": _ID,
        "status": _STATUS,
        "caller": _CALLER,
        "namespace": _NAMESPACE,
        "async": Parameter(
            Boolean(),
            "The model waits for what it called.",
            "refused",
            nullable=True,
            neutral=(False,),
        ),
    }
)
FUNCTION_CALL_OUTPUT = Object(
    {
        "type": _TYPE,
        "call_id": Parameter(String(1), required=True),
        "output": Parameter(
            Either({str: String(), list: Array(Tagged("type", {**_INPUT_TEXT, **_MEDIA}))}),
            required=True,
        ),
        "id": _ID,
        "status": _STATUS,
        "name": Parameter(String(), "The call's own name is read.", "harmless", nullable=True),
        "caller": _CALLER,
        "namespace": _NAMESPACE,
    }
)
_SAID = Array(Object({"type": _TYPE, "text": Parameter(String(), required=True)}))
REASONING = Object(
    {
        "type": _TYPE,
        "id": _ID,
        "summary": Parameter(_SAID, nullable=True),
        "content": Parameter(_SAID, nullable=True),
        "encrypted_content": Parameter(String(), nullable=True),
        "status": _STATUS,
    }
)
REFERENCE = Object(
    {
        "type": _TYPE,
        "id": Parameter(String(1), "Of an item of a stored response.", required=True),
    }
)

_OF_TOOLS = (
    "file_search_call",
    "computer_call",
    "computer_call_output",
    "web_search_call",
    "tool_search_call",
    "tool_search_output",
    "additional_tools",
    "image_generation_call",
    "code_interpreter_call",
    "local_shell_call",
    "local_shell_call_output",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "custom_tool_call",
    "custom_tool_call_output",
    "program",
    "program_output",
    "configuration_update",
)
ITEM = Tagged(
    "type",
    {
        "message": Parameter(MESSAGE),
        "function_call": Parameter(FUNCTION_CALL),
        "function_call_output": Parameter(FUNCTION_CALL_OUTPUT),
        "reasoning": Parameter(
            REASONING, "Another model's thoughts; not shown to this one.", "harmless"
        ),
        "item_reference": Parameter(REFERENCE),
        **refused(NO_TOOL, *_OF_TOOLS),
        **refused(NOT_COMPACTED, "compaction", "compaction_trigger"),
    },
)
INPUT: Shape = Either({str: String(), list: Array(ITEM)})


def typed(item: Any) -> Any:
    """An item with its type said: a message's and a reference's may be left out."""
    if not isinstance(item, dict) or item.get("type") is not None:
        return item
    kind = "item_reference" if "id" in item and "role" not in item else "message"
    return {**item, "type": kind}
