"""What passes by in the Responses API, as whoever watches chats understands it.

Bodies and events of a hosted side are not ours: nothing here raises for what it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_CUT = {"max_output_tokens": "length", "content_filter": "content_filter"}
_TAKEN = ("id", "model", "service_tier")


def as_chat(read: Mapping[str, Any]) -> Mapping[str, Any]:
    """A response or one of its events as a `chat.completion` or a chunk of one, as far as it says
    what those say; what belongs to a chat already is passed on as it is."""
    if "choices" in read:
        return read
    if read.get("object") == "response":
        message = {"role": "assistant", **_message(_items(read))}
        return {**_head(read), "choices": [_choice(read, message=message)]}
    kind = read.get("type")
    if isinstance(kind, str) and (kind == "error" or kind.startswith("response.")):
        return _event(kind, read)
    return read


def _event(kind: str, read: Mapping[str, Any]) -> Mapping[str, Any]:
    if kind == "error":
        return {"error": read.get("error") or {"code": read.get("code")}}
    if kind == "response.output_text.delta":
        return {"choices": [{"index": 0, "delta": {"content": read.get("delta")}}]}
    if kind == "response.output_item.done" and _is(read.get("item"), "function_call"):
        called = {"index": read.get("output_index", 0), **_call(read["item"])}
        return {"choices": [{"index": 0, "delta": {"tool_calls": [called]}}]}
    response = read.get("response")
    if not isinstance(response, Mapping):
        return {}
    error = {"error": response["error"]} if response.get("error") else {}
    ended = finish_reason(response) is not None
    choices = [_choice(response, delta={})] if ended else []
    return {**_head(response), "choices": choices, **error}


def _head(response: Mapping[str, Any]) -> dict[str, Any]:
    taken = {name: response[name] for name in _TAKEN if name in response}
    usage = response.get("usage")
    return {**taken, "usage": _usage(usage)} if isinstance(usage, Mapping) else taken


def _choice(response: Mapping[str, Any], **said: Any) -> dict[str, Any]:
    return {"index": 0, "finish_reason": finish_reason(response), **said}


def finish_reason(response: Mapping[str, Any]) -> str | None:
    """Why a response ended, in the chat API's words (`error` for one that failed or was
    cancelled); None for one that has not."""
    status = response.get("status")
    if status == "completed":
        called = any(_is(item, "function_call") for item in _items(response))
        return "tool_calls" if called else "stop"
    if status == "incomplete":
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, Mapping) else None
        return _CUT.get(str(reason), "length")
    return "error" if status in ("failed", "cancelled") else None


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    read, written = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    return {
        "prompt_tokens": usage.get("input_tokens"),
        "completion_tokens": usage.get("output_tokens"),
        "total_tokens": usage.get("total_tokens"),
        "prompt_tokens_details": read if isinstance(read, Mapping) else {},
        "completion_tokens_details": written if isinstance(written, Mapping) else {},
    }


def _items(response: Mapping[str, Any]) -> Sequence[Any]:
    output = response.get("output")
    return output if isinstance(output, list) else ()


def _message(items: Sequence[Any]) -> dict[str, Any]:
    texts = [part.get("text") for item in items for part in _parts(item)]
    calls = [_call(item) for item in items if _is(item, "function_call")]
    said: dict[str, Any] = {"content": "".join(filter(None, texts)) or None}
    return {**said, "tool_calls": calls} if calls else said


def _call(item: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": item.get("name"), "arguments": item.get("arguments")}
    return {"id": item.get("call_id"), "type": "function", "function": function}


def _parts(item: Any) -> Iterator[Mapping[str, Any]]:
    content = item.get("content") if isinstance(item, Mapping) else None
    for part in content if isinstance(content, list) else ():
        if isinstance(part, Mapping):
            yield part


def _is(item: Any, kind: str) -> bool:
    return isinstance(item, Mapping) and item.get("type") == kind


def messages_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages of a request, instructions first, as far as they are known."""
    said = body.get("input")
    instructions = body.get("instructions")
    first = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(said, str):
        return [*first, {"role": "user", "content": said}]
    items = said if isinstance(said, list) else []
    return [*first, *(_of_item(item) for item in items if isinstance(item, Mapping))]


def _of_item(item: Mapping[str, Any]) -> dict[str, Any]:
    if item.get("type") == "function_call":
        return {"role": "assistant", "tool_calls": [_call(item)]}
    if item.get("type") == "function_call_output":
        content = _as_text(item.get("output"))
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": content}
    return {"role": item.get("role"), "content": _as_text(item.get("content"))}


def _as_text(content: Any) -> Any:
    """Parts of text by the chat API's name for them."""
    if not isinstance(content, list):
        return content
    return [
        {**part, "type": "text"} if str(part.get("type")).endswith("put_text") else dict(part)
        for part in content
        if isinstance(part, Mapping)
    ]
