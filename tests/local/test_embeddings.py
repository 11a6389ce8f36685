"""Embeddings of the local provider."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from provider.base import ApiRequest
from provider.client import AsyncOpenAI
from provider.errors import ApiError, InvalidRequest
from provider.local import LocalProvider, cl100k
from provider.local.cl100k import Cl100k
from provider.local.embedding import Embedding
from provider.settings import Settings
from tests.protocol.components import EMBEDDINGS, check

PATH = "/v1/embeddings"
TEXTS = ["거실은 남향입니다.", "주방 " * 40, "a", "The living room faces south."]


async def embedded(provider: LocalProvider, **body: Any) -> dict[str, Any]:
    asked = {"model": "text-embedding-3-small", **body}
    response = await provider.answer(ApiRequest("POST", PATH, body=json.dumps(asked).encode()))
    answer: dict[str, Any] = json.loads(await response.read())
    check(answer, EMBEDDINGS)
    return answer


async def refused(provider: LocalProvider, **body: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await embedded(provider, **body)
    return caught.value


async def test_the_order_is_kept_and_a_batch_gives_what_single_calls_give(
    provider: LocalProvider,
) -> None:
    batch = await embedded(provider, input=TEXTS)
    assert batch["model"] == "roberta-tiny"
    tokens = 0
    for index, text in enumerate(TEXTS):
        single = await embedded(provider, input=text)
        tokens += single["usage"]["prompt_tokens"]
        assert batch["data"][index]["index"] == index
        np.testing.assert_allclose(
            batch["data"][index]["embedding"], single["data"][0]["embedding"], atol=1e-5
        )
    assert batch["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


async def test_base64_is_little_endian_float32(provider: LocalProvider) -> None:
    plain = await embedded(provider, input=TEXTS[:1], encoding_format="float")
    packed = await embedded(provider, input=TEXTS[:1], encoding_format="base64")
    bits = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), dtype="<f4")
    assert bits.shape == (768,)
    assert np.array_equal(bits, np.array(plain["data"][0]["embedding"], dtype=np.float32))


async def test_the_sdk_reads_either(client: AsyncOpenAI) -> None:
    answer = await client.embeddings.create(model="text-embedding-3-small", input=TEXTS)
    assert [len(item.embedding) for item in answer.data] == [768] * 4


async def test_another_width_is_refused(client: AsyncOpenAI, provider: LocalProvider) -> None:
    await embedded(provider, input="a", dimensions=768)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.embeddings.create(model="text-embedding-3-small", input="a", dimensions=512)
    assert caught.value.param == "dimensions"
    assert "768 dimensions" in caught.value.message


async def test_an_input_that_is_too_long_is_an_error(provider: LocalProvider) -> None:
    error = await refused(provider, input=["a", "방" * 600])
    assert (error.status, error.param, error.code) == (400, "input", "context_length_exceeded")
    assert "input[1]" in error.message
    assert "maximum context length is 512 tokens" in error.message


async def test_too_many_tokens_altogether(provider: LocalProvider) -> None:
    error = await refused(provider, input=["방" * 160] * 2000)
    assert error.code == "max_tokens_per_request"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": ""}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": "a", "model": "gpt-4o-mini"}, 403, None),
        ({"input": "a", "model": "nope"}, 404, "model"),
        ({}, 400, "input"),
    ],
)
async def test_refusals(
    provider: LocalProvider, body: dict[str, Any], status: int, param: str | None
) -> None:
    error = await refused(provider, **body)
    assert (error.status, error.param) == (status, param)


async def test_token_ids_without_their_encoding_name_the_way_out(provider: LocalProvider) -> None:
    error = await refused(provider, input=[[1, 2]])
    assert error.param == "input"
    assert "check_embedding_ctx_length=False" in error.message


async def test_token_ids_are_read_where_the_encoding_is_at_hand(embedding: Embedding) -> None:
    table = {index: bytes([index]) for index in range(256)}
    reading = Embedding(embedding.embedder, embedding.queue, embedding.name, Cl100k(table))
    settings = Settings(_env_file=None, embedding_provider="local")
    provider = LocalProvider(settings, embedding=reading)
    from_ids = await embedded(provider, input=[list("방 a".encode()), [97]])
    from_text = await embedded(provider, input=["방 a", "a"])
    assert from_ids == from_text
    for wrong in ([[300]], [list("방".encode())[:2]]):
        assert (await refused(provider, input=wrong)).param == "input"


def test_the_encoding_is_read_from_an_intact_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = b"".join(base64.b64encode(bytes([i])) + b" %d\n" % i for i in range(256))
    assert cl100k.find([tmp_path]) is None
    (tmp_path / cl100k.CACHE_NAME).write_bytes(table)
    assert cl100k.find([tmp_path]) is None
    monkeypatch.setattr(cl100k, "SHA256", hashlib.sha256(table).hexdigest())
    found = cl100k.find([tmp_path / "none", tmp_path])
    assert found is not None
    assert found.text(list("평면도".encode()), "input[0]") == "평면도"
    with pytest.raises(InvalidRequest, match="not a token id"):
        found.text([256], "input[0]")
    assert next(cl100k.places(tmp_path)) == tmp_path
