"""Our side of `litellm.completion(model="sllm/...")`: LiteLLM's custom handler over our clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from provider.client import AsyncOpenAI, OpenAI
from provider.settings import Settings


def handler(litellm: Any, settings: Settings | None) -> Any:
    """A `litellm.CustomLLM` whose calls are answered by the configured provider."""
    sync, asynchronous = OpenAI(settings=settings), AsyncOpenAI(settings=settings)

    class Handler(litellm.CustomLLM):  # type: ignore[misc]
        def completion(self, *args: Any, **given: Any) -> Any:
            answer = sync.chat.completions.create(**_wanted(given))
            return litellm.ModelResponse(**answer.model_dump())

        async def acompletion(self, *args: Any, **given: Any) -> Any:
            answer = await asynchronous.chat.completions.create(**_wanted(given))
            return litellm.ModelResponse(**answer.model_dump())

        def streaming(self, *args: Any, **given: Any) -> Iterator[Any]:
            with sync.chat.completions.create(**_streamed(given)) as chunks:
                for chunk in chunks:
                    yield from _pieces(chunk)

        async def astreaming(self, *args: Any, **given: Any) -> AsyncIterator[Any]:
            chunks = await asynchronous.chat.completions.create(**_streamed(given))
            async with chunks:
                async for chunk in chunks:
                    for piece in _pieces(chunk):
                        yield piece

        def embedding(self, *args: Any, **given: Any) -> Any:
            answer = sync.embeddings.create(model=given["model"], input=given["input"])
            return litellm.EmbeddingResponse(**answer.model_dump())

        async def aembedding(self, *args: Any, **given: Any) -> Any:
            answer = await asynchronous.embeddings.create(
                model=given["model"], input=given["input"]
            )
            return litellm.EmbeddingResponse(**answer.model_dump())

    return Handler()


def _wanted(given: dict[str, Any]) -> dict[str, Any]:
    """What the app asked for; the rest of LiteLLM's arguments are its own business."""
    options = {k: v for k, v in given["optional_params"].items() if k != "stream"}
    return {"model": given["model"], "messages": given["messages"], **options}


def _streamed(given: dict[str, Any]) -> dict[str, Any]:
    return {**_wanted(given), "stream": True, "stream_options": {"include_usage": True}}


def _pieces(chunk: Any) -> Iterator[dict[str, Any]]:
    """An OpenAI chunk in LiteLLM's generic form (`GenericStreamingChunk`)."""
    usage = chunk.usage.model_dump() if chunk.usage is not None else None
    if not chunk.choices and usage is not None:
        yield _piece(usage=usage)
    for choice in chunk.choices:
        calls = choice.delta.tool_calls or [None]
        for call in calls:
            yield _piece(
                text=choice.delta.content or "",
                index=choice.index,
                tool_use=call.model_dump() if call is not None else None,
                finish_reason=choice.finish_reason or "",
                is_finished=choice.finish_reason is not None,
            )


def _piece(**known: Any) -> dict[str, Any]:
    empty = {
        "text": "",
        "tool_use": None,
        "is_finished": False,
        "finish_reason": "",
        "usage": None,
        "index": 0,
    }
    return {**empty, **known}
