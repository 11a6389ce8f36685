"""LOCAL_LLM_STANDBY: what is switched away from keeps its model, or gives its memory back."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest
import torch

from provider.base import ApiRequest
from provider.factory import build
from provider.overrides import Overrides
from provider.settings import Settings
from tests.standin import serve
from tests.tiny import embedder_folder, llm_folder

_KINDS = (torch.Tensor, torch.nn.Parameter)


def weights() -> int:
    """Bytes of all tensors of this process."""
    gc.collect()
    found = [one for one in gc.get_objects() if type(one) in _KINDS]
    return sum(one.numel() * one.element_size() for one in found)


def asked() -> ApiRequest:
    body = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "안녕"}],
        "max_tokens": 2,
    }
    return ApiRequest(
        "POST", "/v1/chat/completions", {"content-type": "application/json"}
    ).with_json(body)


@pytest.mark.parametrize(("standby", "kept"), [("warm", True), ("cold", False)])
async def test_a_local_model_that_is_switched_away_from(
    tmp_path: Path, standby: str, kept: bool
) -> None:
    with serve() as standin:
        settings = Settings(
            _env_file=None,
            llm_provider="local",
            local_llm_model_path=str(llm_folder()),
            local_llm_device="cpu",
            local_llm_standby=standby,
            local_embedding_model=str(embedder_folder()),
            openai_base_url=standin.base_url,
            openai_api_key=standin.key,
            sllm_state_file=tmp_path / "providers.json",
        )
        provider = build(settings)
        overrides = Overrides(settings.state_file, {"openai", "local"})
        before = weights()
        for name in ("local", "openai", "local"):
            overrides.set({"llm": name})
            response = await provider.answer(asked())
            assert response.status == 200, await response.read()
            assert response.headers["x-sllm-provider"] == name
            await _settled()
            held = weights() - before
            assert (held > 100_000) is (kept or name == "local"), (name, held)
        await provider.aclose()
        assert weights() - before < 100_000


async def _settled() -> None:
    """What closes in the background has closed."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait(others, timeout=10) if others else None
