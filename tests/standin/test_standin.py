"""The stand-in itself: it answers, refuses and misbehaves as announced."""

from __future__ import annotations

import contextlib
import math
import struct
from base64 import b64decode
from typing import Any

import jsonschema
import openai
import pytest

from provider.sdk_http import httpx
from tests.standin import FAULTS, StandIn, serve
from tests.standin.instances import instance

HELLO: Any = [{"role": "user", "content": "안녕 hello"}]


@pytest.fixture
def client(standin: StandIn) -> openai.OpenAI:
    return openai.OpenAI(base_url=standin.base_url, api_key=standin.key, max_retries=0, timeout=5)


def test_another_prompt_gives_another_answer(client: openai.OpenAI) -> None:
    said = {
        client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": text}]
        )
        .choices[0]
        .message.content
        for text in ("a", "b", "a")
    }
    assert len(said) == 2


def test_vectors_follow_from_the_text(client: openai.OpenAI) -> None:
    texts = ["창이 있는 거실", "창이 있는 큰 거실", "tax law of 1897"]
    made = client.embeddings.create(model="text-embedding-3-small", input=texts, dimensions=512)
    first, near, far = (item.embedding for item in made.data)
    assert math.isclose(sum(x * x for x in first), 1, rel_tol=1e-5)
    assert _dot(first, near) > _dot(first, far) + 0.3


def test_fewer_dimensions_are_a_renormalised_prefix(standin: StandIn) -> None:
    def raw(dimensions: int) -> list[float]:
        answer = httpx.post(
            f"{standin.base_url}/embeddings",
            headers={"authorization": f"Bearer {standin.key}"},
            json={
                "model": "text-embedding-3-small",
                "input": "창",
                "dimensions": dimensions,
                "encoding_format": "base64",
            },
        )
        packed = b64decode(answer.json()["data"][0]["embedding"])
        return list(struct.unpack(f"<{dimensions}f", packed))

    whole, short = raw(1536), raw(512)
    norm = math.sqrt(sum(x * x for x in whole[:512]))
    assert short == pytest.approx([x / norm for x in whole[:512]], abs=1e-7)


def _dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_requests_are_kept_byte_for_byte(standin: StandIn) -> None:
    body = b'{"model":"gpt-4o-mini",  "messages":[{"role":"user","content":"\\uc548"}]}'
    headers = {"Authorization": f"Bearer {standin.key}", "Content-Type": "application/json"}
    httpx.post(f"{standin.base_url}/chat/completions?x=1", headers=headers, content=body)
    assert standin.last.body == body
    assert standin.last.query == "x=1"
    assert standin.last.headers["authorization"] == f"Bearer {standin.key}"


@pytest.mark.parametrize(
    ("key", "code"), [("sk-wrong-key-0123456789", "invalid_api_key"), ("", None)]
)
def test_keys_are_checked(standin: StandIn, key: str, code: str | None) -> None:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    answer = httpx.get(f"{standin.base_url}/models", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == code
    assert key not in answer.text or not key


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z]{2}-\\d{3,5}$"},
        "rooms": {"type": "array", "items": {"$ref": "#/$defs/room"}, "minItems": 1},
        "grade": {"enum": ["A", "B", "C"]},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["name", "rooms", "grade", "note"],
    "additionalProperties": False,
    "$defs": {
        "room": {
            "type": "object",
            "properties": {
                "area": {"type": "number", "minimum": 3, "maximum": 9},
                "inner": {"anyOf": [{"$ref": "#/$defs/room"}, {"type": "null"}]},
            },
            "required": ["area", "inner"],
            "additionalProperties": False,
        }
    },
}


def test_instances_are_valid_and_differ() -> None:
    made = [instance(SCHEMA, str(seed)) for seed in range(50)]
    for one in made:
        jsonschema.validate(one, SCHEMA)
    assert len({str(one) for one in made}) > 40


@pytest.mark.parametrize("fault", sorted(FAULTS.keys() - {"delay", "redirect"}))
def test_every_fault_can_be_asked_for(client: openai.OpenAI, standin: StandIn, fault: str) -> None:
    """None of them takes the server down: the next request is answered."""
    stream = fault.startswith("stream_")
    standin.faults.add(fault)
    # openai 2.x lets the HTTP library's own errors through when a stream breaks.
    with contextlib.suppress(Exception):
        answer: Any = client.with_options(timeout=0.4).chat.completions.create(
            model="gpt-4o-mini", messages=HELLO, stream=stream
        )
        if stream:
            for number, _ in enumerate(answer):
                if number > 100:
                    answer.close()
                    break
    assert standin.requests[0].fault == fault
    # A connection of its own: some faults leave the old one in pieces.
    fresh = openai.OpenAI(base_url=standin.base_url, api_key=standin.key, max_retries=0)
    assert fresh.chat.completions.create(model="gpt-4o-mini", messages=HELLO).choices
    fresh.close()


def test_a_redirect_goes_where_it_says(client: openai.OpenAI, standin: StandIn) -> None:
    with serve() as elsewhere:
        standin.faults.add("redirect", to=f"{elsewhere.base_url}/chat/completions")
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert "authorization" not in elsewhere.last.headers
