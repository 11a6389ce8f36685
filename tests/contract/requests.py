"""What the tests ask, in one place: messages, schemas and tools that any provider can answer."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, Field

from tests.contract.targets import CHAT

HELLO: list[Any] = [
    {"role": "system", "content": "You are a careful architect."},
    {"role": "user", "content": "거실의 채광을 한 문장으로 설명해 주세요. 😀"},
]


def ask(**more: Any) -> dict[str, Any]:
    """A chat request of few tokens; `more` overrides."""
    return {"model": CHAT, "messages": HELLO, "max_tokens": 24, "seed": 7, **more}


class Grade(StrEnum):
    good = "good"
    fair = "fair"
    poor = "poor"


class Room(BaseModel):
    kind: Grade
    windows: bool


class Plan(BaseModel):
    """A schema in OpenAI's strict subset whose instances are short: enums, booleans, a null."""

    grade: Grade
    rooms: Annotated[list[Room], Field(max_length=2)] | None
    lit: bool


def strict(name: str, schema: dict[str, Any], strict: bool = True) -> dict[str, Any]:
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "strict": strict, "schema": schema},
    }


def closed(**properties: Any) -> dict[str, Any]:
    """A strict object: every property required, no other allowed."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


CITY = {"type": "string", "enum": ["서울", "부산", "Jeju"]}
VERDICT = closed(
    grade={"type": "string", "enum": ["good", "fair", "poor"]},
    score={"type": "integer", "minimum": 0, "maximum": 9},
    note={"anyOf": [{"type": "string", "enum": ["밝음", "어두움"]}, {"type": "null"}]},
    rooms={"type": "array", "items": {"$ref": "#/$defs/room"}, "minItems": 1, "maxItems": 2},
) | {
    "$defs": {"room": closed(kind={"type": "string", "enum": ["a", "b"]}, lit={"type": "boolean"})}
}


def tool(name: str, strict: bool = True, **properties: Any) -> dict[str, Any]:
    function = {
        "name": name,
        "description": f"Looks up the {name.split('_')[-1]}.",
        "parameters": closed(**properties),
        "strict": strict,
    }
    return {"type": "function", "function": function}


WEATHER = tool("get_weather", city=CITY)
TIME = tool("get_time", city=CITY, utc={"type": "boolean"})
ASKED: list[Any] = [{"role": "user", "content": "What is the weather and the time in 서울?"}]
