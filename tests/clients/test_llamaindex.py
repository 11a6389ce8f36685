# mypy: disable-error-code="import-not-found, untyped-decorator"
"""LlamaIndex: OpenAI, OpenAILike, OpenAIEmbedding. (It reads annotations of tools as they are.)"""

from typing import Any, Literal

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

ASKED = [ChatMessage(role="system", content="Be brief."),
         ChatMessage(role="user", content="What is the weather? 창은 몇 개?")]  # fmt: skip


class Verdict(BaseModel):
    """A verdict on a floor plan."""

    grade: Literal["good", "poor"]
    lit: bool


def weather(city: Literal["Seoul", "Busan"]) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


@pytest.fixture(params=[OpenAI, OpenAILike], ids=["OpenAI", "OpenAILike"])
def llm(request: pytest.FixtureRequest, base_url: str, key: str) -> Any:
    more = {"is_chat_model": True, "is_function_calling_model": True, "context_window": 4096}
    return request.param(
        model="gpt-4o-mini", api_base=base_url, api_key=key, max_tokens=200, temperature=0,
        max_retries=0, additional_kwargs={"seed": 7},
        **(more if request.param is OpenAILike else {}),
    )  # fmt: skip


def test_chat(llm: Any) -> None:
    assert llm.chat(ASKED).message.role == "assistant"


def test_complete(llm: Any) -> None:
    assert isinstance(llm.complete("안녕").text, str)


def test_stream_is_the_whole_answer(llm: Any) -> None:
    said = "".join(part.delta or "" for part in llm.stream_chat(ASKED))
    assert said == llm.chat(ASKED).message.content


async def test_async(llm: Any) -> None:
    assert (await llm.achat(ASKED)).message.role == "assistant"
    assert [part async for part in await llm.astream_chat(ASKED)]


def test_structured(llm: Any) -> None:
    prompt = PromptTemplate("Judge: {plan}")
    assert isinstance(llm.structured_predict(Verdict, prompt, plan="거실"), Verdict)


def test_tools(llm: Any) -> None:
    tools = [FunctionTool.from_defaults(weather)]
    answer = llm.chat_with_tools(tools, user_msg="weather", tool_required=True)
    calls = llm.get_tool_calls_from_response(answer)
    assert [call.tool_name for call in calls][:1] == ["weather"]


def _embedding(base_url: str, key: str) -> OpenAIEmbedding:
    return OpenAIEmbedding(model="text-embedding-3-small", api_base=base_url, api_key=key)


def test_embeddings(base_url: str, key: str) -> None:
    model = _embedding(base_url, key)
    batch = model.get_text_embedding_batch(["남향 거실", "kitchen"])
    alone = model.get_text_embedding("남향 거실")
    assert all(abs(a - b) < 1e-5 for a, b in zip(batch[0], alone, strict=True))


async def test_embeddings_async(base_url: str, key: str) -> None:
    assert len(await _embedding(base_url, key).aget_text_embedding("남향 거실")) > 100
