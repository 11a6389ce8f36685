"""Streams: raw iteration, the SDK's event stream, early ends. Order and shape of every chunk are
checked below the SDK (`wiretap`)."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import openai
import pytest

from tests.contract.both import all_of, each, entered, settled
from tests.contract.requests import VERDICT, ask, strict
from tests.contract.wiretap import Wiretap


async def _chunks(client: Any, **more: Any) -> list[Any]:
    return await all_of(await settled(client.chat.completions.create(**ask(**more), stream=True)))


def _text(chunks: list[Any], index: int = 0) -> str:
    return "".join(
        choice.delta.content or ""
        for chunk in chunks
        for choice in chunk.choices
        if choice.index == index
    )


async def test_says_what_the_whole_answer_says(client: Any) -> None:
    whole = await settled(client.chat.completions.create(**ask()))
    assert _text(await _chunks(client)) == whole.choices[0].message.content


async def test_comes_in_pieces(client: Any) -> None:
    chunks = await _chunks(client, response_format=strict("v", VERDICT), max_tokens=200)
    assert len(chunks) > 4
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    jsonschema.validate(json.loads(_text(chunks)), VERDICT)


async def test_usage_on_request(client: Any) -> None:
    chunks = await _chunks(client, stream_options={"include_usage": True})
    whole = await settled(client.chat.completions.create(**ask()))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


async def test_no_usage_otherwise(client: Any) -> None:
    assert all(chunk.usage is None for chunk in await _chunks(client))


async def test_no_usage_when_declined(client: Any) -> None:
    chunks = await _chunks(client, stream_options={"include_usage": False})
    assert all(chunk.usage is None for chunk in chunks)


async def test_obfuscation_declined(client: Any) -> None:
    chunks = await _chunks(client, stream_options={"include_obfuscation": False})
    assert all(getattr(chunk, "obfuscation", None) is None for chunk in chunks)


async def test_cut_streams_end_length(client: Any) -> None:
    chunks = await _chunks(client, response_format=strict("v", VERDICT), max_tokens=3)
    assert chunks[-1].choices[0].finish_reason == "length"


async def test_several_answers(client: Any) -> None:
    chunks = await _chunks(client, n=2, temperature=1)
    whole = await settled(client.chat.completions.create(**ask(n=2, temperature=1)))
    for index in range(2):
        assert _text(chunks, index) == whole.choices[index].message.content


async def test_logprobs(client: Any) -> None:
    chunks = await _chunks(client, logprobs=True, top_logprobs=2)
    tokens = [
        token
        for chunk in chunks
        if chunk.choices[0].logprobs is not None
        for token in chunk.choices[0].logprobs.content or []
    ]
    whole = await settled(client.chat.completions.create(**ask(logprobs=True, top_logprobs=2)))
    assert tokens == whole.choices[0].logprobs.content
    said = b"".join(bytes(token.bytes) for token in tokens).decode(errors="replace")
    assert said.startswith(_text(chunks))
    assert all(len(token.top_logprobs) <= 2 for token in tokens)


async def test_event_stream(client: Any) -> None:
    """`client.chat.completions.stream()`: typed events and a final completion."""
    events = []
    async with entered(client.chat.completions.stream(**ask())) as stream:
        try:
            events = [event async for event in each(stream)]
            final = await settled(stream.get_final_completion())
        except openai.LengthFinishReasonError as cut:
            final = cut.completion
    said = [event.delta for event in events if event.type == "content.delta"]
    assert any(event.type == "chunk" for event in events)
    assert "".join(said) == (final.choices[0].message.content or "")


async def test_left_early(client: Any, wiretap: Wiretap) -> None:
    """Closing a stream ends it; the next request is answered as ever."""
    request = ask(max_tokens=400, response_format=strict("v", VERDICT))
    stream = await settled(client.chat.completions.create(**request, stream=True))
    async for chunk in each(stream):
        assert chunk.choices[0].delta.role == "assistant"
        break
    await settled(stream.close())
    assert not wiretap.last.complete
    assert (await settled(client.chat.completions.create(**ask()))).choices


async def test_left_by_the_context_manager(client: Any) -> None:
    request = ask(max_tokens=400, response_format=strict("v", VERDICT))
    stream = await settled(client.chat.completions.create(**request, stream=True))
    async with entered(stream):
        async for _ in each(stream):
            break
    assert (await settled(client.chat.completions.create(**ask()))).choices


async def test_raw_stream(client: Any) -> None:
    raw = await settled(client.chat.completions.with_raw_response.create(**ask(), stream=True))
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert raw.headers["x-request-id"]
    assert await all_of(raw.parse())


async def test_streaming_response_lines(client: Any) -> None:
    manager = client.chat.completions.with_streaming_response.create(**ask(), stream=True)
    async with entered(manager) as response:
        lines = [line async for line in each(response.iter_lines()) if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"


async def test_streaming_response_of_a_whole_answer(client: Any) -> None:
    manager = client.chat.completions.with_streaming_response.create(**ask())
    async with entered(manager) as response:
        body = b"".join([piece async for piece in each(response.iter_bytes())])
    assert json.loads(body)["object"] == "chat.completion"


@pytest.mark.parametrize("times", [3])
async def test_leaving_again_and_again_frees_everything(client: Any, times: int) -> None:
    for _ in range(times):
        stream = await settled(
            client.chat.completions.create(**ask(n=2, max_tokens=400), stream=True)
        )
        async for _chunk in each(stream):
            break
        await settled(stream.close())
    assert (await settled(client.chat.completions.create(**ask()))).choices
