# mypy: disable-error-code="import-not-found, untyped-decorator"
"""LangChain: ChatOpenAI and OpenAIEmbeddings (which sends token ids)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

TEXTS = ["남향 거실은 밝습니다.", "The kitchen is small.", "화장실 두 개"]


class Grade(StrEnum):
    good = "good"
    poor = "poor"


class Verdict(BaseModel):
    """A verdict on a floor plan."""

    grade: Grade
    lit: bool


@tool
def get_weather(city: Grade) -> str:
    """The weather."""
    return f"sunny, {city}"


@pytest.fixture
def model(base_url: str, key: str) -> ChatOpenAI:
    return ChatOpenAI(
        model="gpt-4o-mini", base_url=base_url, api_key=key, max_tokens=200, temperature=0,
        seed=7, max_retries=0, stream_usage=True,
    )  # fmt: skip


ASKED: list[Any] = [SystemMessage("Be brief."), HumanMessage("What is the weather? 창은?")]


def test_invoke(model: ChatOpenAI) -> None:
    answer = model.invoke(ASKED)
    assert isinstance(answer.content, str)
    assert answer.usage_metadata["total_tokens"] > answer.usage_metadata["input_tokens"] > 0
    assert answer.response_metadata["finish_reason"] in ("stop", "length")


def test_stream_is_the_whole_answer(model: ChatOpenAI) -> None:
    chunks = list(model.stream(ASKED))
    assert "".join(str(chunk.content) for chunk in chunks) == model.invoke(ASKED).content
    total = sum(chunks[1:], chunks[0])
    assert total.usage_metadata["output_tokens"] > 0


async def test_async_stream(model: ChatOpenAI) -> None:
    assert [chunk async for chunk in model.astream(ASKED)]


def test_batch(model: ChatOpenAI) -> None:
    together = model.batch([ASKED, "안녕", ASKED])
    assert together[0].content == together[2].content


async def test_async_invoke(model: ChatOpenAI) -> None:
    assert isinstance((await model.ainvoke("안녕")).content, str)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(model: ChatOpenAI, method: Any) -> None:
    assert isinstance(model.with_structured_output(Verdict, method=method).invoke(ASKED), Verdict)


def test_structured_output_streams(model: ChatOpenAI) -> None:
    parts = list(model.with_structured_output(Verdict, method="json_schema").stream(ASKED))
    assert isinstance(parts[-1], Verdict)


def test_tools_and_their_results(model: ChatOpenAI) -> None:
    answer = model.bind_tools([get_weather], tool_choice="any", strict=True).invoke(ASKED)
    call = answer.tool_calls[0]
    assert call["name"] == "get_weather"
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    assert isinstance(model.invoke([*ASKED, answer, result]).content, str | list)


def test_tools_streamed(model: ChatOpenAI) -> None:
    chunks = list(
        model.bind_tools([get_weather], tool_choice="get_weather", strict=True).stream(ASKED)
    )
    total: Any = sum(chunks[1:], chunks[0])
    assert [call["name"] for call in total.tool_calls] == ["get_weather"]


def test_logprobs(model: ChatOpenAI) -> None:
    answer = model.bind(logprobs=True, top_logprobs=2).invoke(ASKED)
    assert answer.response_metadata["logprobs"]["content"]


def _embeddings(base_url: str, key: str, **more: Any) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(model="text-embedding-3-small", base_url=base_url, api_key=key, **more)


def test_embeddings_as_token_ids(base_url: str, key: str, backend: str) -> None:
    """LangChain's default: cl100k ids. The local provider reads them as the text they are."""
    ids = _embeddings(base_url, key).embed_documents(TEXTS)
    assert len(ids) == len(TEXTS)
    if backend == "local":
        plain = _embeddings(base_url, key, check_embedding_ctx_length=False)
        assert _close(ids, plain.embed_documents(TEXTS))


def test_embeddings_as_text(base_url: str, key: str) -> None:
    plain = _embeddings(base_url, key, check_embedding_ctx_length=False)
    vectors = plain.embed_documents(TEXTS)
    assert _close(vectors[:1], [plain.embed_query(TEXTS[0])])
    assert vectors[0] != vectors[1]


async def test_embeddings_async(base_url: str, key: str) -> None:
    plain = _embeddings(base_url, key, check_embedding_ctx_length=False)
    assert len(await plain.aembed_documents(TEXTS)) == 3


def _close(one: list[list[float]], other: list[list[float]]) -> bool:
    pairs = zip(sum(one, []), sum(other, []), strict=True)  # noqa: RUF017 - a handful
    return all(abs(a - b) < 1e-5 for a, b in pairs)
