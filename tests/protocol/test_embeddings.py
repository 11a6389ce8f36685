"""Embedding requests: the four spellings of an input, limits, spaces, and the answer's bits."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from provider.errors import InvalidRequest
from provider.protocol.embeddings import (
    EmbeddingRequest,
    check_dimensions,
    check_total,
    parse,
    response,
)
from tests.protocol.components import EMBEDDINGS, check

MODEL = "text-embedding-3-small"


def asked(value: Any, **more: Any) -> EmbeddingRequest:
    return parse({"model": MODEL, "input": value, **more})


def refusal(value: Any, **more: Any) -> tuple[str, str | None, str | None]:
    with pytest.raises(InvalidRequest) as caught:
        asked(value, **more)
    json.dumps(caught.value.body(), ensure_ascii=False).encode()
    return caught.value.message, caught.value.param, caught.value.code


@pytest.mark.parametrize(
    ("value", "inputs"),
    [
        ("방", ("방",)),
        (["방", "주방"], ("방", "주방")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
    ],
)
def test_the_four_spellings(value: Any, inputs: Any) -> None:
    assert asked(value) == EmbeddingRequest(MODEL, inputs)


def test_options_arrive() -> None:
    assert asked("a", dimensions=768, encoding_format="base64", user="u") == EmbeddingRequest(
        MODEL, ("a",), 768, "base64", ("user",)
    )


@pytest.mark.parametrize(
    ("value", "message", "param", "code"),
    [
        (
            "",
            "Invalid 'input': empty string. Expected a string with minimum length 1, but got an "
            "empty string instead.",
            "input",
            "empty_string",
        ),
        (
            ["a", ""],
            "Invalid 'input[1]': empty string. Expected a string with minimum length 1, but got "
            "an empty string instead.",
            "input[1]",
            "empty_string",
        ),
        (
            [],
            "Invalid 'input': empty array. Expected an array with minimum length 1, but got an "
            "empty array instead.",
            "input",
            "empty_array",
        ),
        (
            ["a"] * 2049,
            "Invalid 'input': array too long. Expected an array with maximum length 2048, but got "
            "an array with length 2049 instead.",
            "input",
            "array_above_max_length",
        ),
        (
            ["a", 1],
            "Invalid type for 'input[1]': expected a string, but got an integer instead.",
            "input[1]",
            "invalid_type",
        ),
        (
            [1, "a"],
            "Invalid type for 'input[1]': expected an integer, but got a string instead.",
            "input[1]",
            "invalid_type",
        ),
        (
            {"a": 1},
            "Invalid type for 'input': expected one of a string, array of strings, array of "
            "integers or array of arrays of integers, but got an object instead.",
            "input",
            "invalid_type",
        ),
        ([-1], "Invalid 'input[0]': -1 is not a token id.", "input[0]", "invalid_value"),
        (
            [[1], []],
            "Invalid 'input[1]': empty array. Expected an array with minimum length 1, but got an "
            "empty array instead.",
            "input[1]",
            "empty_array",
        ),
    ],
)
def test_refused_inputs(value: Any, message: str, param: str, code: str) -> None:
    assert refusal(value) == (message, param, code)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "512"}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"foo": 1}, "foo"),
    ],
)
def test_refused_options(more: dict[str, Any], param: str) -> None:
    assert refusal("a", **more)[1] == param


def test_another_width_is_another_space() -> None:
    check_dimensions(asked("a"), "kosimcse", 768)
    check_dimensions(asked("a", dimensions=768), "kosimcse", 768)
    with pytest.raises(InvalidRequest) as caught:
        check_dimensions(asked("a", dimensions=512), "kosimcse", 768)
    assert caught.value.param == "dimensions"
    for word in ("kosimcse", "768", "512", "not comparable", "EMBEDDING_PROVIDER=openai"):
        assert word in caught.value.message


def test_token_limit_over_all_inputs() -> None:
    check_total([512] * 500)
    with pytest.raises(InvalidRequest) as caught:
        check_total([400] * 1000)
    assert caught.value.code == "max_tokens_per_request"


FLOATS = st.lists(
    st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9
)


@settings(deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=3))
def test_both_formats_carry_the_same_bits(vectors: list[list[float]]) -> None:
    rows = [struct.pack(f"<{len(vector)}f", *vector) for vector in vectors]
    plain = response(asked("a"), "m", rows, 7)
    packed = response(asked("a", encoding_format="base64"), "m", rows, 7)
    for body in (plain, packed):
        check(body, EMBEDDINGS)
        assert [item["index"] for item in body["data"]] == list(range(len(rows)))
        assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    CreateEmbeddingResponse.model_validate(plain, strict=True)
    assert [base64.b64decode(item["embedding"]) for item in packed["data"]] == rows
    returned = json.loads(json.dumps(plain))["data"]
    again = [struct.pack(f"<{len(v['embedding'])}f", *v["embedding"]) for v in returned]
    assert again == rows


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@settings(deadline=None)
@given(JSON)
def test_any_input_is_a_request_or_a_refusal(value: Any) -> None:
    try:
        asked(value)
    except InvalidRequest as refused:
        json.dumps(refused.body(), ensure_ascii=False, allow_nan=False).encode()
