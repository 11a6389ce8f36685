"""Answers bound to JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from provider.client import AsyncOpenAI
from provider.local import LocalProvider
from tests.local.asking import ASK, completion, refused


class Room(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Literal["거실", "주방"]
    windows: Literal[1, 2, 3]


async def test_a_pydantic_model_comes_back(client: AsyncOpenAI) -> None:
    parsed = await client.chat.completions.parse(**{**ASK, "max_tokens": 200}, response_format=Room)
    assert isinstance(parsed.choices[0].message.parsed, Room)
    assert parsed.choices[0].finish_reason == "stop"


async def test_json_that_is_cut_says_so(provider: LocalProvider) -> None:
    schema = Room.model_json_schema()
    form = {"type": "json_schema", "json_schema": {"name": "room", "schema": schema}}
    choice = (await completion(provider, response_format=form, max_tokens=3))["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"].startswith('{"name"')


async def test_any_json_object(provider: LocalProvider) -> None:
    form = {"type": "json_object"}
    choice = (await completion(provider, response_format=form))["choices"][0]
    assert choice["message"]["content"].startswith("{")


async def test_a_schema_that_cannot_be_enforced_is_refused_by_keyword(
    provider: LocalProvider,
) -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": "https://example.com/s"}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    error = await refused(provider, response_format=form)
    assert error.status == 400
    assert error.param is not None
    assert error.param.startswith("response_format.json_schema.schema")
    assert "$ref" in error.message
