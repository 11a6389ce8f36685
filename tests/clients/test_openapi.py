# mypy: disable-error-code="import-not-found, untyped-decorator"
"""schemathesis: requests drawn from our own OpenAPI document, valid and broken.

No 5xx, no hang, and every error body is OpenAI's.
"""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings

from tests.clients.conftest import SERVERS

ORIGIN = SERVERS["local"].removesuffix("/v1")
schema = schemathesis.openapi.from_url(f"{ORIGIN}/openapi.json")


@schema.parametrize()
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_breaks_it(case: Any, key: str) -> None:
    answer = case.call(
        base_url=ORIGIN, headers={"Authorization": f"Bearer {key}"}, timeout=60, stream=False
    )
    assert answer.status_code < 500, answer.text
    assert answer.headers["x-request-id"]
    if answer.status_code >= 400:
        _is_openais(answer)


@schema.exclude(path=["/health", "/ready"]).parametrize()
@settings(max_examples=5, deadline=None, derandomize=True,
          suppress_health_check=list(HealthCheck))  # fmt: skip
def test_nobody_is_let_in_without_a_key(case: Any) -> None:
    answer = case.call(base_url=ORIGIN, headers={"Authorization": "Bearer sk-wrong"}, timeout=60)
    assert answer.status_code in (401, 403, 405), answer.text
    _is_openais(answer)


@schema.include(path=["/v1/chat/completions", "/v1/embeddings"]).parametrize()
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_nothing_that_reaches_the_model_breaks_it(case: Any, key: str) -> None:
    """The same, with what random bodies always stumble over put right."""
    if isinstance(case.body, dict):
        _put_right(case.body, chat="chat" in case.path)
    answer = case.call(base_url=ORIGIN, headers={"Authorization": f"Bearer {key}"}, timeout=60)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        _is_openais(answer)


def _put_right(body: dict[str, Any], chat: bool) -> None:
    body["model"] = "gpt-4o-mini" if chat else "text-embedding-3-small"
    if not chat:
        body.pop("dimensions", None)
        return
    body |= {"messages": [{"role": "user", "content": "창은? JSON."}]}
    body |= {"max_tokens": 6, "n": min(body["n"], 3) if type(body.get("n")) is int else None}
    for name in ("max_completion_tokens", "audio", "web_search_options", "moderation",
                 "reasoning_effort", "verbosity", "modalities"):  # fmt: skip
        body.pop(name, None)
    for name, other in (("tool_choice", "tools"), ("parallel_tool_calls", "tools"),
                        ("function_call", "functions"), ("top_logprobs", "logprobs"),
                        ("stream_options", "stream")):  # fmt: skip
        if not body.get(other):
            body.pop(name, None)


def _is_openais(answer: Any) -> None:
    kind = answer.headers["content-type"]
    assert kind[0].startswith("application/json") if isinstance(kind, list) else kind
    body = answer.json()
    assert set(body) == {"error"}, body
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}, error
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["code"] is None or isinstance(error["code"], str)
