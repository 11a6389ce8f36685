"""Messages: their shapes, their frozen form, and the rules between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from provider.protocol import echoes, values
from provider.protocol.freeform import Json
from provider.protocol.shapes import Array, Either, Object, OneOf, Parameter, String, Tagged

NAME_PATTERN = "[a-zA-Z0-9_-]+"

TEXT_ONLY = "This model reads text only; send the content as text parts."
NO_CUSTOM = "Custom tools are not supported; use a tool of type 'function'."

_BREAKPOINT = Parameter(
    Object(
        {
            "mode": Parameter(OneOf(("explicit",)), required=True),
            "ttl": Parameter(OneOf(("30m", "12h"))),
        }
    ),
    echoes.MARKED,
    "harmless",
    nullable=True,
)

TEXT = Object(
    {
        "type": Parameter(String(), required=True),
        "text": Parameter(String(), required=True),
        "prompt_cache_breakpoint": _BREAKPOINT,
        **echoes.CACHE_MARK,
    }
)


def _media(field: str, *members: str) -> Parameter:
    inner = Object({name: Parameter(String()) for name in members})
    fields = {
        "type": Parameter(String(), required=True),
        field: Parameter(inner, required=True),
        "prompt_cache_breakpoint": _BREAKPOINT,
    }
    return Parameter(Object(fields), TEXT_ONLY, "refused")


_TEXT_PART = {"text": Parameter(TEXT)}
_USER_PARTS = {
    **_TEXT_PART,
    "image_url": _media("image_url", "url", "detail"),
    "input_audio": _media("input_audio", "data", "format"),
    "file": _media("file", "file_data", "file_id", "filename"),
}
_REFUSAL = Object(
    {
        "type": Parameter(String(), required=True),
        "refusal": Parameter(String(), required=True),
    }
)
_ASSISTANT_PARTS = {**_TEXT_PART, "refusal": Parameter(_REFUSAL, "Read as text.")}

_CALLED = Object(
    {
        "name": Parameter(String(1, 64, NAME_PATTERN), required=True),
        "arguments": Parameter(String(), required=True),
        **echoes.CALLED,
    }
)
_CUSTOM_CALLED = Object({"name": Parameter(String()), "input": Parameter(String())})
_CALL = Tagged(
    "type",
    {
        "function": Parameter(
            Object(
                {
                    "id": Parameter(String(1), required=True),
                    "type": Parameter(String(), required=True),
                    "function": Parameter(_CALLED, required=True),
                    **echoes.CALL,
                }
            )
        ),
        "custom": Parameter(
            Object(
                {
                    "id": Parameter(String()),
                    "type": Parameter(String()),
                    "custom": Parameter(_CUSTOM_CALLED),
                }
            ),
            NO_CUSTOM,
            "refused",
        ),
    },
)

_SPEAKER = "Written before the message's text as `name: `."


def _content(parts: Mapping[str, Parameter], *, nullable: bool = False) -> Parameter:
    shape = Either({str: String(), list: Array(Tagged("type", parts), 1)})
    return Parameter(shape, required=not nullable, nullable=nullable)


def _message(content: Parameter, **fields: Parameter) -> Parameter:
    common = {"role": Parameter(String(), required=True), "content": content}
    return Parameter(Object({**common, **fields, **echoes.CACHE_MARK}))


_NAME = Parameter(String(1, 64, "[^\\s<|\\\\/>]+"), _SPEAKER)
_AUDIO = Parameter(
    Object({"id": Parameter(String(), required=True)}), TEXT_ONLY, "refused", nullable=True
)

MESSAGE = Tagged(
    "role",
    {
        "system": _message(_content(_TEXT_PART), name=_NAME),
        "assistant": _message(
            _content(_ASSISTANT_PARTS, nullable=True),
            name=_NAME,
            refusal=Parameter(String(), "Read as text where there is no content.", nullable=True),
            tool_calls=Parameter(Array(_CALL, 1), nullable=True),
            function_call=Parameter(_CALLED, nullable=True),
            audio=_AUDIO,
            # Not in the request types, but answers have it and apps send answers back.
            annotations=Parameter(
                Array(Json()), "Citations of a web search; not read.", "harmless", neutral=([],)
            ),
            **echoes.ASSISTANT,
        ),
        "user": _message(_content(_USER_PARTS), name=_NAME),
        "function": _message(
            _content({}, nullable=True),
            name=Parameter(String(1, 64, NAME_PATTERN), required=True),
        ),
        "tool": _message(
            _content(_TEXT_PART),
            tool_call_id=Parameter(String(1), required=True),
            **echoes.TOOL,
        ),
        "developer": _message(_content(_TEXT_PART), name=_NAME),  # read as system
    },
)


@dataclass(frozen=True, slots=True)
class Call:
    """A function call: `arguments` is JSON text as the model or the client wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message; text parts are joined, `content` is "" where there is none."""

    role: str
    content: str = ""
    name: str | None = None
    calls: tuple[Call, ...] = ()
    answers: str | None = None
    """The id of the tool call that a tool message answers."""


def messages(raw: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Checked raw messages as data. Raises `InvalidRequest` where they do not follow each other
    as OpenAI demands: every tool call is answered, and nothing else is."""
    # "messages.[0]": how OpenAI spells a place in refusals that look beyond one field.
    parsed = tuple(_parse(item, f"messages.[{index}]") for index, item in enumerate(raw))
    _check_answers(parsed)
    return parsed


def text_of(content: Any) -> str:
    """A string, a list of text and refusal parts, or null, as text."""
    if isinstance(content, list):
        return "".join(part.get("text") or part.get("refusal") or "" for part in content)
    return content or ""


def _parse(raw: Mapping[str, Any], path: str) -> Message:
    calls = tuple(
        Call(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in raw.get("tool_calls") or ()
    )
    legacy = raw.get("function_call")
    if legacy is not None:
        calls += (Call("", legacy["name"], legacy["arguments"]),)
    content = text_of(raw.get("content")) or raw.get("refusal") or ""
    if raw["role"] == "assistant" and raw.get("content") is None and not (content or calls):
        raise values.conflict(
            f"{path}.content", "Invalid value for 'content': expected a string, got null."
        )
    return Message(raw["role"], content, raw.get("name"), calls, raw.get("tool_call_id"))


def _check_answers(parsed: Sequence[Message]) -> None:
    open_calls: list[str] = []
    for index, message in enumerate(parsed):
        if message.role == "tool":
            if message.answers not in open_calls:
                raise values.conflict(
                    f"messages.[{index}].role",
                    "Invalid parameter: messages with role 'tool' must be a response to a "
                    "preceeding message with 'tool_calls'.",
                )
            open_calls.remove(message.answers)
            continue
        _check_answered(open_calls, f"messages.[{index}].role")
        open_calls = [call.id for call in message.calls if call.id]
    _check_answered(open_calls, "messages")


def _check_answered(open_calls: Sequence[str], param: str) -> None:
    if open_calls:
        raise values.conflict(
            param,
            "An assistant message with 'tool_calls' must be followed by tool messages responding "
            "to each 'tool_call_id'. The following tool_call_ids did not have response messages: "
            f"{values.shown(', '.join(open_calls))}",
        )
