"""Structured output: json_object, json_schema, `.parse`."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import openai
import pytest

from tests.contract.both import entered, settled
from tests.contract.requests import ASKED, VERDICT, Plan, ask, closed, strict
from tests.contract.wiretap import Wiretap

JSON = [{"role": "user", "content": "Answer in JSON: 거실은 밝은가요?"}]


@pytest.mark.parametrize("strictly", [True, False])
async def test_schema_holds(client: Any, strictly: bool) -> None:
    request = ask(response_format=strict("verdict", VERDICT, strictly), max_tokens=200)
    for seed in (1, 2):
        answer = await settled(client.chat.completions.create(**request | {"seed": seed}))
        assert answer.choices[0].finish_reason == "stop"
        jsonschema.validate(json.loads(answer.choices[0].message.content), VERDICT)


async def test_schema_holds_for_every_answer(client: Any) -> None:
    request = ask(response_format=strict("verdict", VERDICT), max_tokens=200, n=3, temperature=1.5)
    answer = await settled(client.chat.completions.create(**request))
    for choice in answer.choices:
        jsonschema.validate(json.loads(choice.message.content), VERDICT)


async def test_keys_come_in_the_order_of_the_schema(client: Any) -> None:
    request = ask(response_format=strict("verdict", VERDICT), max_tokens=200)
    answer = await settled(client.chat.completions.create(**request))
    assert list(json.loads(answer.choices[0].message.content)) == list(VERDICT["properties"])


async def test_json_object(client: Any) -> None:
    request = ask(messages=JSON, response_format={"type": "json_object"}, max_tokens=300)
    answer = await settled(client.chat.completions.create(**request))
    choice = answer.choices[0]
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict)
    else:
        assert choice.message.content.lstrip().startswith("{")


async def test_parse(client: Any) -> None:
    request = ask(response_format=Plan, max_tokens=200)
    answer = await settled(client.chat.completions.parse(**request))
    assert isinstance(answer.choices[0].message.parsed, Plan)


async def test_parse_of_a_cut_answer_raises(client: Any) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        await settled(client.chat.completions.parse(**ask(response_format=Plan, max_tokens=2)))


async def test_parse_streamed(client: Any) -> None:
    request = ask(response_format=Plan, max_tokens=200)
    async with entered(client.chat.completions.stream(**request)) as stream:
        final = await settled(stream.get_final_completion())
    assert isinstance(final.choices[0].message.parsed, Plan)


async def test_schema_with_tools_that_are_not_used(client: Any) -> None:
    from tests.contract.requests import WEATHER

    request = ask(
        messages=ASKED,
        response_format=strict("verdict", VERDICT),
        tools=[WEATHER],
        tool_choice="none",
        max_tokens=200,
    )
    answer = await settled(client.chat.completions.create(**request))
    jsonschema.validate(json.loads(answer.choices[0].message.content), VERDICT)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "objekt"},
        {"type": "object", "properties": {"a": {"type": "strin"}}, "required": ["a"],
         "additionalProperties": False},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}, "required": ["a"],
         "additionalProperties": False},
        {"type": "array", "items": {"type": "string"}},
    ],
    ids=["no-type", "nested-type", "dangling-ref", "root-array"],
)  # fmt: skip
async def test_a_schema_that_cannot_be_is_refused(client: Any, schema: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await settled(client.chat.completions.create(**ask(response_format=strict("s", schema))))
    assert refused.value.param is not None
    assert refused.value.param.startswith("response_format")
    assert "schema" in refused.value.message.lower()


async def test_loose_schemas_are_refused_or_kept(target: Any, client: Any) -> None:
    """Outside OpenAI's strict subset: OpenAI refuses, the local provider may enforce it."""
    loose = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    request = ask(response_format=strict("loose", loose), max_tokens=200)
    if not target.local:
        with pytest.raises(openai.BadRequestError, match="additionalProperties"):
            await settled(client.chat.completions.create(**request))
        return
    answer = await settled(client.chat.completions.create(**request))
    text = answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length" or json.loads(text)["a"] in (1, 2)


@pytest.mark.parametrize(
    "name", ["거실", "a\r\nx-evil: 1", "\x1b[31m", "\x00", "\x7f\x85", "a" * 9000, "😀", "'\"\\"]
)
async def test_no_name_breaks_a_header(client: Any, wiretap: Wiretap, name: str) -> None:
    """Names of a schema come back in reports and errors; they stay data."""
    schema = {**closed(**{name: {"type": "boolean"}}), name: {"type": "string"}, "$comment": name}
    request = ask(response_format=strict("s", schema, strict=False), max_tokens=4)
    try:
        await settled(client.chat.completions.create(**request))
    except openai.BadRequestError as refused:
        if not refused.param:
            raise
    headers = wiretap.last.headers
    assert "x-evil" not in headers
    assert all(" " <= letter <= "~" for value in headers.values() for letter in value)
