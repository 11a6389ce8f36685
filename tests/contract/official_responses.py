"""What OpenAI's reference says of a response and of the events of a streamed one.

Facts of the components Response, OutputMessage, FunctionToolCall, ResponseUsage and of the
streaming events, https://platform.openai.com/docs/api-reference/responses; closed, as
`tests.contract.official`.
"""

from __future__ import annotations

import json
from typing import Any

import jsonschema

from tests.contract.official import (
    COMPONENTS,
    COUNT,
    INTEGER,
    NULL,
    STRING,
    Schema,
    array,
    const,
    obj,
    or_null,
)

_STATUS = {"enum": ["in_progress", "completed", "incomplete"]}
_TOKEN = {"token": STRING, "logprob": {"type": "number", "maximum": 0}, "bytes": array(INTEGER)}
_LOGPROB = obj({**_TOKEN, "top_logprobs": array(obj(_TOKEN))})
_TEXT = obj(
    {
        "type": const("output_text"),
        "text": STRING,
        "annotations": array({"type": "object"}),
        "logprobs": array(_LOGPROB),
    }
)
_REFUSAL = obj({"type": const("refusal"), "refusal": STRING})
_PART = {"anyOf": [_TEXT, _REFUSAL]}


def _id(prefix: str) -> Schema:
    return {"type": "string", "pattern": f"^{prefix}_[0-9a-f]{{48}}$"}


_MESSAGE = obj(
    {
        "id": _id("msg"),
        "type": const("message"),
        "status": _STATUS,
        "role": const("assistant"),
        "content": array(_PART),
    }
)
_CALL = obj(
    {
        "id": _id("fc"),
        "type": const("function_call"),
        "status": _STATUS,
        "call_id": {"type": "string", "minLength": 1},
        "name": {"type": "string", "minLength": 1},
        "arguments": STRING,
    }
)
_ITEM = {"anyOf": [_MESSAGE, _CALL]}
_USAGE = obj(
    {
        "input_tokens": COUNT,
        "input_tokens_details": obj({"cached_tokens": COUNT, "cache_write_tokens": COUNT}),
        "output_tokens": COUNT,
        "output_tokens_details": obj({"reasoning_tokens": COUNT}),
        "total_tokens": COUNT,
    }
)
_FORMAT = {
    "anyOf": [
        obj({"type": {"enum": ["text", "json_object"]}}),
        obj(
            {
                "type": const("json_schema"),
                "name": STRING,
                "description": or_null(STRING),
                "schema": {"type": "object"},
                "strict": {"type": "boolean"},
            }
        ),
    ]
}
_TOOL = obj(
    {
        "type": const("function"),
        "name": STRING,
        "description": or_null(STRING),
        "parameters": or_null({"type": "object"}),
        "strict": {"type": "boolean"},
    }
)
_NUMBER = {"type": "number"}
_STATUSES = ("in_progress", "completed", "incomplete", "failed")

RESPONSE = obj(
    {
        "id": _id("resp"),
        "object": const("response"),
        "created_at": INTEGER,
        "status": {"enum": list(_STATUSES)},
        "background": const(False),
        "completed_at": or_null(INTEGER),
        "error": or_null(obj({"code": STRING, "message": STRING})),
        "incomplete_details": or_null(
            obj({"reason": {"enum": ["max_output_tokens", "content_filter"]}})
        ),
        "instructions": or_null(STRING),
        "max_output_tokens": or_null(INTEGER),
        "max_tool_calls": or_null(INTEGER),
        "model": {"type": "string", "minLength": 1},
        "output": array(_ITEM),
        "parallel_tool_calls": {"type": "boolean"},
        "presence_penalty": _NUMBER,
        "frequency_penalty": _NUMBER,
        "previous_response_id": or_null(STRING),
        "prompt_cache_key": or_null(STRING),
        "prompt_cache_retention": or_null(STRING),
        "reasoning": obj({"effort": NULL, "summary": NULL}),
        "safety_identifier": or_null(STRING),
        "service_tier": const("default"),
        "store": {"type": "boolean"},
        "temperature": _NUMBER,
        "text": obj({"format": _FORMAT, "verbosity": {"enum": ["low", "medium", "high"]}}),
        "tool_choice": {"anyOf": [STRING, {"type": "object"}]},
        "tools": array(_TOOL),
        "top_logprobs": COUNT,
        "top_p": _NUMBER,
        "truncation": {"enum": ["auto", "disabled"]},
        "usage": or_null(_USAGE),
        "user": or_null(STRING),
        "metadata": {"type": "object"},
    }
)
_INPUT_ITEM = {"type": "object", "required": ["id", "type"]}
COMPONENTS["response"] = RESPONSE
COMPONENTS["input_tokens"] = obj({"object": const("response.input_tokens"), "input_tokens": COUNT})
COMPONENTS["deleted"] = obj({"id": STRING, "object": const("response"), "deleted": const(True)})
COMPONENTS["input_items"] = obj(
    {
        "object": const("list"),
        "data": array(_INPUT_ITEM),
        "first_id": or_null(STRING),
        "last_id": or_null(STRING),
        "has_more": {"type": "boolean"},
    }
)

_PLACE = {"item_id": STRING, "output_index": COUNT}
_IN_PART = {**_PLACE, "content_index": COUNT}
_OF_ITEM = {"output_index": COUNT, "item": _ITEM}
_FIELDS: dict[str, Schema] = {
    **{f"response.{name}": {"response": RESPONSE} for name in ("created", *_STATUSES)},
    "response.output_item.added": _OF_ITEM,
    "response.output_item.done": _OF_ITEM,
    "response.content_part.added": {**_IN_PART, "part": _PART},
    "response.content_part.done": {**_IN_PART, "part": _PART},
    "response.output_text.delta": {**_IN_PART, "delta": STRING, "logprobs": array(_LOGPROB)},
    "response.output_text.done": {**_IN_PART, "text": STRING, "logprobs": array(_LOGPROB)},
    "response.refusal.delta": {**_IN_PART, "delta": STRING},
    "response.refusal.done": {**_IN_PART, "refusal": STRING},
    "response.function_call_arguments.delta": {**_PLACE, "delta": STRING},
    "response.function_call_arguments.done": {**_PLACE, "arguments": STRING, "name": STRING},
    "error": {
        "code": or_null(STRING),
        "message": STRING,
        "param": or_null(STRING),
        "error": {"type": "object"},
    },
}
EVENTS = {
    kind: obj({"type": const(kind), "sequence_number": COUNT, **fields})
    for kind, fields in _FIELDS.items()
}
_LAST = ("response.completed", "response.incomplete", "response.failed")


def check_events(body: bytes, complete: bool) -> list[dict[str, Any]]:
    """The events of one stream: each named and closed, numbered from 0, in OpenAI's order; and
    what they say adds up to what the last one has."""
    texts = [text for text in body.decode().split("\n\n") if text.strip()]
    if not complete and not body.endswith(b"\n\n"):
        texts = texts[:-1]
    events = [_event(text) for text in texts]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"][: len(kinds)]
    assert not any(kind in _LAST for kind in kinds[:-1]), kinds
    if complete:
        assert kinds[-1] in _LAST, kinds
    built = rebuilt(events)
    if complete and kinds[-1] != "response.failed":
        assert built == events[-1]["response"]["output"]
    return events


def _event(text: str) -> dict[str, Any]:
    name, _, data = text.partition("\n")
    event: dict[str, Any] = json.loads(data.removeprefix("data: "))
    assert name == f"event: {event['type']}", text[:200]
    jsonschema.Draft202012Validator(EVENTS[event["type"]]).validate(event)
    return event


def rebuilt(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The output that the events add up to, as a client builds it; every `done` is checked against
    what the deltas before it said."""
    output: list[dict[str, Any]] = []
    for event in events:
        _BUILD.get(event["type"], _nothing)(output, event)
    return output


def _nothing(output: list[Any], event: dict[str, Any]) -> None:
    """An event that adds nothing to the output."""


def _item_added(output: list[Any], event: dict[str, Any]) -> None:
    assert event["output_index"] == len(output)
    assert event["item"]["status"] == "in_progress"
    output.append(json.loads(json.dumps(event["item"])))


def _item(output: list[Any], event: dict[str, Any]) -> Any:
    item = output[event["output_index"]]
    assert event["output_index"] == len(output) - 1, "one item after the other"
    assert item["id"] == event["item_id"]
    return item


def _part_added(output: list[Any], event: dict[str, Any]) -> None:
    content = _item(output, event)["content"]
    assert event["content_index"] == len(content)
    content.append(json.loads(json.dumps(event["part"])))


def _part(output: list[Any], event: dict[str, Any]) -> Any:
    return _item(output, event)["content"][event["content_index"]]


def _text(output: list[Any], event: dict[str, Any]) -> None:
    part = _part(output, event)
    part["text"] += event["delta"]
    part["logprobs"] += event["logprobs"]


def _refusal(output: list[Any], event: dict[str, Any]) -> None:
    _part(output, event)["refusal"] += event["delta"]


def _argued(output: list[Any], event: dict[str, Any]) -> None:
    _item(output, event)["arguments"] += event["delta"]


def _text_done(output: list[Any], event: dict[str, Any]) -> None:
    part = _part(output, event)
    assert (part["text"], part["logprobs"]) == (event["text"], event["logprobs"])


def _part_done(output: list[Any], event: dict[str, Any]) -> None:
    assert _part(output, event) == event["part"]


def _argued_to_the_end(output: list[Any], event: dict[str, Any]) -> None:
    assert _item(output, event)["arguments"] == event["arguments"]


def _item_done(output: list[Any], event: dict[str, Any]) -> None:
    built, item = output[event["output_index"]], event["item"]
    assert {**built, "status": item["status"]} == item
    assert item["status"] != "in_progress"
    built["status"] = item["status"]


_BUILD = {
    "response.output_item.added": _item_added,
    "response.output_item.done": _item_done,
    "response.content_part.added": _part_added,
    "response.content_part.done": _part_done,
    "response.output_text.delta": _text,
    "response.output_text.done": _text_done,
    "response.refusal.delta": _refusal,
    "response.function_call_arguments.delta": _argued,
    "response.function_call_arguments.done": _argued_to_the_end,
}
