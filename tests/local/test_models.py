"""The list of models, and what the provider says of itself."""

from __future__ import annotations

import json

import openai
import pytest

from provider.base import ApiRequest
from provider.client import AsyncOpenAI
from provider.local import LocalProvider
from tests.protocol.components import MODEL, MODELS, check

SHOWN = {
    "tokens_per_second",
    "tokens_per_forward",
    "batch_size",
    "kv_tokens",
    "kv_bytes",
    "adapters",
    "running",
    "cached_tokens_total",
    "generated_tokens_total",
    "forced_tokens_total",
    "prefilled_tokens_total",
}


async def test_models(provider: LocalProvider, client: AsyncOpenAI) -> None:
    listed = json.loads(await (await provider.answer(ApiRequest("GET", "/v1/models"))).read())
    check(listed, MODELS)
    ids = [model["id"] for model in listed["data"]]
    assert ids[0] == "exaone-tiny"
    assert "gpt-4o-mini" in ids
    assert listed["data"][0]["licence"]
    one = await client.models.retrieve("exaone-tiny")
    check(json.loads(one.model_dump_json()), MODEL)
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("a/b:c")


async def test_it_says_how_it_is(provider: LocalProvider) -> None:
    provider.warm_up()
    health = provider.health()
    assert health["alive"]
    assert health["ready"]
    assert any("exaone-tiny" in line for line in provider.describe())
    names = {sample.name for sample in provider.samples()}
    assert {f"sllm_engine_{name}" for name in SHOWN} <= names
    assert SHOWN - {name for name in SHOWN if name.endswith("_total")} <= health["engine"].keys()
    assert "sllm_embedding_waiting" in names
