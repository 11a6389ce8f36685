# mypy: disable-error-code="import-not-found, untyped-decorator"
"""LiteLLM as a client: `openai/<model>` with our base URL, and its exception mapping."""

from __future__ import annotations

from typing import Any, Literal

import litellm
import pytest
from pydantic import BaseModel


class Verdict(BaseModel):
    grade: Literal["good", "poor"]
    lit: bool


ASKED = [{"role": "user", "content": "What is the weather? 창은?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["서울", "부산"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
def ask(base_url: str, key: str) -> dict[str, Any]:
    return {"model": "openai/gpt-4o-mini", "api_base": base_url, "api_key": key, "seed": 7,
            "messages": ASKED, "max_tokens": 200, "temperature": 0, "num_retries": 0,
            "max_retries": 0}  # fmt: skip


def test_completion(ask: dict[str, Any]) -> None:
    answer: Any = litellm.completion(**ask)
    assert isinstance(answer.choices[0].message.content, str)
    assert answer.usage.total_tokens > 0


def test_stream_is_the_whole_answer(ask: dict[str, Any]) -> None:
    parts: Any = litellm.completion(**ask, stream=True)
    said = "".join(part.choices[0].delta.content or "" for part in parts)
    whole: Any = litellm.completion(**ask)
    assert said == whole.choices[0].message.content


async def test_async(ask: dict[str, Any]) -> None:
    answer: Any = await litellm.acompletion(**ask)
    assert answer.choices[0].finish_reason in ("stop", "length")


async def test_async_stream(ask: dict[str, Any]) -> None:
    parts: Any = await litellm.acompletion(**ask, stream=True)
    assert [part async for part in parts]


def test_structured(ask: dict[str, Any]) -> None:
    answer: Any = litellm.completion(**ask, response_format=Verdict)
    Verdict.model_validate_json(answer.choices[0].message.content)


def test_tools(ask: dict[str, Any]) -> None:
    answer: Any = litellm.completion(**ask, tools=[TOOL], tool_choice="required")
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"


def test_embedding(base_url: str, key: str) -> None:
    answer: Any = litellm.embedding(
        model="openai/text-embedding-3-small", input=["남향", "북향"], api_base=base_url,
        api_key=key, encoding_format="float",
    )  # fmt: skip
    assert len(answer.data) == 2


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"model": "openai/gpt-9"}, litellm.NotFoundError),
        ({"api_key": "sk-wrong-0123456789"}, litellm.AuthenticationError),
        ({"temperature": 3}, litellm.BadRequestError),
        ({"messages": [{"role": "user", "content": "자 " * 140_000}]},
         litellm.ContextWindowExceededError),
    ],
    ids=["model", "key", "range", "context"],
)  # fmt: skip
def test_errors(ask: dict[str, Any], changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        litellm.completion(**{**ask, **changes})
