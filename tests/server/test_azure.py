"""Azure OpenAI's addresses, asked by the official SDK's Azure client and by hand."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI

from tests.server.conftest import Client
from tests.server.scripted import Scripted, echoes, says
from tests.server.wire import CHAT

DEPLOYED = "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21"
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "exaone-demo",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "네"}}
    ],
}


def azure(http_client: Any, key: str = "k", deployment: str | None = None) -> AsyncAzureOpenAI:
    return AsyncAzureOpenAI(
        azure_endpoint="http://localhost", azure_deployment=deployment, api_key=key,
        api_version="2024-10-21", max_retries=0, http_client=http_client,
    )  # fmt: skip


@pytest.mark.parametrize(
    "deployment", [None, "our deployment", "v1"], ids=["by-model", "by-deployment", "v1"]
)
async def test_the_sdks_azure_client_is_answered(
    client: Client, scripted: Scripted, deployment: str | None
) -> None:
    scripted.scripts[CHAT] = says(ANSWER)
    async with client(sllm_api_keys=["k"]) as c:
        asked: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "창은?"}]}
        v1 = AsyncOpenAI(base_url="http://localhost/openai/v1", api_key="k", http_client=c)
        sdk = v1 if deployment == "v1" else azure(c, deployment=deployment)
        answer = await sdk.chat.completions.create(**asked)
    assert answer.choices[0].message.content == "네"
    (seen,) = scripted.seen
    assert seen.path == CHAT
    assert seen.query == ""
    assert "api-key" not in seen.headers
    assert seen.json["model"] == (
        "our deployment" if deployment == "our deployment" else "gpt-4o-mini"
    )
    assert seen.json["messages"] == asked["messages"]


async def test_azures_responses_are_the_same(client: Client, scripted: Scripted) -> None:
    scripted.scripts["/v1/responses"] = says({"id": "resp_1", "object": "response", "output": []})
    async with client(sllm_api_keys=["k"]) as c:
        answer = await azure(c).responses.create(model="gpt-4o-mini", input="창은?")
    assert answer.id == "resp_1"
    (seen,) = scripted.seen
    assert (seen.path, seen.query, seen.json["model"]) == ("/v1/responses", "", "gpt-4o-mini")


async def test_a_wrong_key_and_a_foreign_path_are_refused(
    client: Client, scripted: Scripted
) -> None:
    async with client(sllm_api_keys=["k"]) as c:
        with pytest.raises(openai.AuthenticationError):
            await azure(c, key="other").chat.completions.create(model="m", messages=[])
        answer = await c.post("/openai/deployments/a/files", headers={"api-key": "k"})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "Invalid URL (POST /openai/deployments/a/files)"
    assert not scripted.seen


@pytest.mark.parametrize(
    "body",
    [b"{", b"[1]", b'"x"', b"\xff", b"[" * 200_000, b'{"a": "\\ud800"}'],
    ids=["cut", "array", "string", "bytes", "deep", "surrogate"],
)
async def test_what_is_no_object_reaches_the_provider_as_it_came(
    client: Client, scripted: Scripted, body: bytes
) -> None:
    scripted.scripts[CHAT] = says({"ok": True})
    async with client() as c:
        headers = {"content-type": "application/json"}
        answer = await c.post(DEPLOYED, content=body, headers=headers)
    assert answer.status_code == 200
    (seen,) = scripted.seen
    if body.startswith(b"{") and body.endswith(b"}"):
        assert json.loads(seen.body) == {**json.loads(body), "model": "gpt-4o-mini"}
    else:
        assert seen.body == body


async def test_a_segment_that_leads_elsewhere_is_refused(
    client: Client, scripted: Scripted
) -> None:
    scripted.scripts[CHAT] = echoes
    async with client() as c:
        for path in ("/openai/v1/../admin/providers", "/openai/v1/%2e%2e/admin/providers"):
            answer = await c.get(path)
            assert answer.status_code == 404, path
    assert not scripted.seen
