"""Whatever is sent, the answer is OpenAI's: a completion, a stream, or an error that it has."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provider.base import ApiRequest
from provider.errors import InvalidRequest
from provider.local import LocalProvider
from tests.local.asking import CHAT
from tests.protocol.components import COMPLETION, EMBEDDINGS, ERROR, check
from tests.protocol.test_chat import JSON, LIKELY, places

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
WORD = st.text("ab 가나{", min_size=1, max_size=3)
SCHEMA = st.sampled_from(
    [
        {"type": "object", "properties": {"a": {"type": "integer"}}},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "["}}},
        {"type": "object", "properties": {"a": {"type": "nothing"}}},
        {"type": "object", "properties": []},
        {"type": "object", "required": "a"},
        {"type": "object", "$ref": "#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"type": "object", "properties": {"a": {"enum": []}}},
        {"type": "object", "allOf": [{"type": "string"}]},
        {"type": "object", "patternProperties": {"^(a+)+$": {}}},
        {"type": "object", "properties": {"a": {"type": "string", "minLength": 10**9}}},
        {"type": "object", "x-guidance": {"whitespace_flexible": True}},
        {},
    ]
)
FORMAT = st.one_of(
    st.just({"type": "text"}),
    st.just({"type": "json_object"}),
    st.builds(
        lambda schema, strict: {
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": schema, "strict": strict},
        },
        SCHEMA,
        st.booleans(),
    ),
)
TOOLS = st.lists(
    st.builds(
        lambda name, schema: {"type": "function", "function": {"name": name, "parameters": schema}},
        st.sampled_from(["f", "g", "h_1-x"]),
        SCHEMA,
    ),
    min_size=1,
    max_size=2,
)
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "seed": st.integers(-(2**63), 2**63 - 1),
    "n": st.integers(1, 3),
    "stop": WORD | st.lists(WORD, min_size=1, max_size=4),
    "presence_penalty": st.floats(-2, 2),
    "frequency_penalty": st.floats(-2, 2),
    "logit_bias": st.dictionaries(st.integers(0, 500).map(str), st.floats(-100, 100), max_size=3),
    "logprobs": st.booleans(),
    "top_logprobs": st.integers(0, 20),
    "response_format": FORMAT,
    "tools": TOOLS,
    "tool_choice": st.sampled_from(["auto", "none", "required"]),
    "parallel_tool_calls": st.booleans(),
    "stream": st.booleans(),
    "prediction": TEXT.map(lambda text: {"type": "content", "content": text}),
}
NEEDS = {"top_logprobs": "logprobs", "tool_choice": "tools", "parallel_tool_calls": "tools"}


def sensible(body: dict[str, Any]) -> dict[str, Any]:
    """Without the options that are refused without others, so that most requests are served."""
    return {name: value for name, value in body.items() if body.get(NEEDS.get(name, name))}


REQUESTS = st.fixed_dictionaries(
    {
        "model": st.just("gpt-4o-mini"),
        "messages": TEXT.map(lambda text: [{"role": "user", "content": "json " + text}]),
        "max_tokens": st.integers(1, 6),
    },
    optional=OPTIONS,
).map(sensible)
PATIENT = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


async def answer_is_sound(provider: LocalProvider, path: str, body: Any, schema: Any) -> None:
    encoded = json.dumps(body).encode()
    try:
        response = await provider.answer(ApiRequest("POST", path, body=encoded))
    except InvalidRequest as refused:
        check(json.loads(json.dumps(refused.body())), ERROR)
        return

    whole = await response.read()
    if response.headers["content-type"] == "application/json":
        check(json.loads(whole), schema)
    else:
        assert whole.endswith(b"data: [DONE]\n\n")


@PATIENT
@given(body=REQUESTS)
async def test_good_options_in_any_company(provider: LocalProvider, body: dict[str, Any]) -> None:
    await answer_is_sound(provider, CHAT, body, COMPLETION)


@PATIENT
@given(place=st.sampled_from(places(LIKELY)), value=JSON)
async def test_a_wrong_value_anywhere(
    provider: LocalProvider, place: tuple[Any, ...], value: Any
) -> None:
    body = json.loads(json.dumps({**LIKELY, "model": "gpt-4o-mini", "max_tokens": 3}))
    target = body
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    await answer_is_sound(provider, CHAT, body, COMPLETION)


@PATIENT
@given(value=JSON | st.lists(TEXT), more=st.dictionaries(st.sampled_from(["dimensions"]), JSON))
async def test_any_embedding_input(
    provider: LocalProvider, value: Any, more: dict[str, Any]
) -> None:
    body = {"model": "text-embedding-3-small", "input": value, **more}
    await answer_is_sound(provider, "/v1/embeddings", body, EMBEDDINGS)
