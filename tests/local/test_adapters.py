"""Adapters of the local provider: loaded, asked for by name, listed, unloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provider.base import ApiRequest
from provider.engine import checkpoint
from provider.errors import ApiError
from provider.local import LocalProvider
from tests.engine.adapter_files import write_adapter
from tests.local.asking import completion
from tests.tiny import llm_folder

LOAD = "/v1/load_lora_adapter"
UNLOAD = "/v1/unload_lora_adapter"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = checkpoint.load(llm_folder(), "cpu", "fp32", progress=False).model
    return write_adapter(tmp_path_factory.mktemp("adapters") / "plans", model, seed=1)


async def post(provider: LocalProvider, path: str, **body: Any) -> dict[str, Any]:
    response = await provider.answer(ApiRequest("POST", path, body=json.dumps(body).encode()))
    answer: dict[str, Any] = json.loads(await response.read())
    return answer


async def refused(provider: LocalProvider, path: str, **body: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await post(provider, path, **body)
    return caught.value


async def test_an_adapter_is_a_model_by_its_name(provider: LocalProvider, folder: Path) -> None:
    base = await completion(provider, temperature=0)
    answer = await post(provider, LOAD, lora_name="plans", lora_path=str(folder))
    assert answer == {"status": "ok", "lora_name": "plans"}
    try:
        adapted = await completion(provider, temperature=0, model="plans")
        assert adapted["model"] == "plans"
        assert adapted["choices"] != base["choices"]
        assert (await completion(provider, temperature=0))["choices"] == base["choices"]
        listed = await provider.answer(ApiRequest("GET", "/v1/models/plans"))
        assert json.loads(await listed.read())["parent"] == "exaone-tiny"
        twice = await refused(provider, LOAD, lora_name="plans", lora_path=str(folder))
        assert twice.status == 409
        await post(provider, LOAD, lora_name="plans", lora_path=str(folder), load_inplace=True)
    finally:
        await post(provider, UNLOAD, lora_name="plans")
    with pytest.raises(ApiError) as gone:
        await completion(provider, model="plans")
    assert gone.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "lora_name"),
        ({"lora_name": "a"}, 400, "lora_path"),
        ({"lora_name": "a b", "lora_path": "x"}, 400, "lora_name"),
        ({"lora_name": "gpt-4o-mini", "lora_path": "x"}, 409, "lora_name"),
        ({"lora_name": "exaone-tiny", "lora_path": "x"}, 409, "lora_name"),
        ({"lora_name": "a", "lora_path": "/nowhere"}, 400, "lora_path"),
    ],
)
async def test_what_cannot_be_loaded(
    provider: LocalProvider, body: dict[str, Any], status: int, param: str
) -> None:
    error = await refused(provider, LOAD, **body)
    assert (error.status, error.param) == (status, param)


async def test_what_is_not_there_cannot_be_unloaded(provider: LocalProvider) -> None:
    assert (await refused(provider, UNLOAD, lora_name="none")).status == 404
