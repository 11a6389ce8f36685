# mypy: disable-error-code="import-not-found, untyped-decorator"
"""pydantic-ai: agents with typed output, native and tool-called, streamed too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

SETTINGS: Any = {"max_tokens": 300, "temperature": 0, "seed": 7}


class Verdict(BaseModel):
    """A verdict on a floor plan."""

    grade: Literal["good", "poor"]
    lit: bool


@pytest.fixture
async def model(base_url: str, key: str) -> AsyncIterator[OpenAIChatModel]:
    client = AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0)
    yield OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider(openai_client=client))
    await client.close()


async def test_text(model: OpenAIChatModel) -> None:
    run = await Agent(model, model_settings=SETTINGS).run("What is the weather? 창은?")
    assert isinstance(run.output, str)
    assert run.usage.output_tokens > 0


@pytest.mark.parametrize("how", [NativeOutput, ToolOutput], ids=["native", "tool"])
async def test_typed(model: OpenAIChatModel, how: Any) -> None:
    agent: Any = Agent(model, output_type=how(Verdict), model_settings=SETTINGS)
    assert isinstance((await agent.run("Judge: 거실")).output, Verdict)


async def test_typed_streamed(model: OpenAIChatModel) -> None:
    agent: Any = Agent(model, output_type=NativeOutput(Verdict), model_settings=SETTINGS)
    async with agent.run_stream("Judge: 거실") as run:
        assert isinstance(await run.get_output(), Verdict)


async def test_text_streamed(model: OpenAIChatModel) -> None:
    async with Agent(model, model_settings=SETTINGS).run_stream("창은?") as run:
        assert [part async for part in run.stream_text(delta=True)] or True
    assert run.usage.output_tokens > 0


async def test_history_goes_back_in(model: OpenAIChatModel) -> None:
    agent = Agent(model, model_settings=SETTINGS)
    first = await agent.run("창은?")
    second = await agent.run("왜?", message_history=first.new_messages())
    assert second.usage.input_tokens > first.usage.input_tokens
