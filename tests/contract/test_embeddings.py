"""Embeddings: every kind of input, both encodings, order."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import openai
import pytest

from tests.contract.both import settled
from tests.contract.targets import EMBEDDING
from tests.contract.wiretap import Wiretap

TEXTS = ["남향 거실은 밝습니다.", "The kitchen is small.", "화장실 두 개", "a"]


async def _embed(client: Any, **more: Any) -> Any:
    return await settled(client.embeddings.create(**{"model": EMBEDDING, "input": TEXTS, **more}))


def _close(one: list[float], other: list[float]) -> bool:
    return all(math.isclose(a, b, abs_tol=1e-5) for a, b in zip(one, other, strict=True))


async def test_one_text(client: Any) -> None:
    answer = await _embed(client, input=TEXTS[0])
    assert [item.index for item in answer.data] == [0]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


async def test_a_batch_is_its_texts_in_order(client: Any) -> None:
    batch = await _embed(client)
    assert [item.index for item in batch.data] == [0, 1, 2, 3]
    for text, item in zip(TEXTS, batch.data, strict=True):
        alone = await _embed(client, input=text)
        assert _close(alone.data[0].embedding, item.embedding)
    assert not _close(batch.data[0].embedding, batch.data[1].embedding)


async def test_usage_adds_up_over_a_batch(client: Any) -> None:
    alone = [(await _embed(client, input=text)).usage.prompt_tokens for text in TEXTS]
    assert (await _embed(client)).usage.prompt_tokens == sum(alone)


async def test_same_text_twice(client: Any) -> None:
    answer = await _embed(client, input=[TEXTS[0], TEXTS[1], TEXTS[0]])
    assert _close(answer.data[0].embedding, answer.data[2].embedding)


async def test_both_encodings_carry_the_same_numbers(client: Any, wiretap: Wiretap) -> None:
    floats = (await _embed(client, encoding_format="float")).data[0].embedding
    await _embed(client, encoding_format="base64")
    import json

    packed = base64.b64decode(json.loads(wiretap.last.body)["data"][0]["embedding"])
    numbers = list(struct.unpack(f"<{len(packed) // 4}f", packed))
    assert len(numbers) == len(floats)
    assert _close(numbers, floats)


async def test_the_sdk_asks_for_base64_and_gets_floats(client: Any, wiretap: Wiretap) -> None:
    answer = await _embed(client)
    assert b"base64" in wiretap.last.request
    assert all(isinstance(number, float) for number in answer.data[0].embedding)


async def test_token_ids(client: Any, target: Any) -> None:
    """cl100k ids, as LangChain sends them: decoded, or refused with the way out."""
    for given in ([9906, 1917], [[9906], [1917, 0]]):
        try:
            answer = await _embed(client, input=given)
        except openai.BadRequestError as refused:
            if not target.local or refused.param != "input":
                raise
            continue
        assert len(answer.data) == (2 if isinstance(given[0], list) else 1)


async def test_user_is_taken(client: Any) -> None:
    assert len((await _embed(client, user="user-1")).data) == 4


async def test_dimensions(client: Any, target: Any) -> None:
    """OpenAI shortens; a local space has the width that it has, and says so."""
    own = len((await _embed(client)).data[0].embedding)
    if not target.local:
        assert len((await _embed(client, dimensions=512)).data[0].embedding) == 512
        return
    assert len((await _embed(client, dimensions=own)).data[0].embedding) == own
    with pytest.raises(openai.BadRequestError) as refused:
        await _embed(client, dimensions=own - 1)
    assert refused.value.param == "dimensions"


@pytest.mark.parametrize(
    "given",
    ["", [], ["a", ""], [[]], ["a", 1], 7, {"a": 1}, ["x"] * 2049, None, "자" * 40_000],
    ids=["empty", "none", "one-empty", "no-tokens", "mixed", "number", "object", "too-many",
         "null", "too-long"],
)  # fmt: skip
async def test_inputs_that_are_refused(client: Any, given: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await _embed(client, input=given)
    assert refused.value.type


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"extra_body": {"dimensions": "many"}}, "dimensions"),
        ({"extra_body": {"truncate": True}}, "truncate"),
    ],
    ids=["encoding", "zero", "text", "unknown"],
)
async def test_parameters_that_are_refused(client: Any, more: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await _embed(client, **more)
    assert refused.value.param == param


async def test_unknown_model(client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await _embed(client, model="text-embedding-9")
    assert refused.value.code == "model_not_found"


async def test_a_hundred_texts(client: Any) -> None:
    answer = await _embed(client, input=[f"{n}번 방" for n in range(100)])
    assert [item.index for item in answer.data] == list(range(100))
    assert len({tuple(item.embedding[:8]) for item in answer.data}) == 100


async def test_raw_response(client: Any) -> None:
    raw = await settled(client.embeddings.with_raw_response.create(model=EMBEDDING, input=TEXTS))
    assert raw.headers["x-request-id"]
    assert len(raw.parse().data) == 4
