"""POST /v1/chat/completions, answered by the engine in this process."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from provider.base import ApiRequest, ApiResponse
from provider.engine.request import Done, Event, Finished, GenerationRequest, Piece, Sampling, Usage
from provider.local.language import Language
from provider.local.portable import Portability
from provider.protocol import sse
from provider.protocol.chat import ChatRequest, parse
from provider.protocol.chunks import Chunks
from provider.protocol.completion import Answer, Head
from provider.protocol.constraints import constraint, reader
from provider.protocol.conversation import conversation

_INLINE = 16_384
"""Bytes of a body that is read on the event loop. A longer one, and whatever needs a grammar to be
compiled, goes to a thread, so that other requests are not held up."""


@dataclass(frozen=True)
class Prepared:
    """A request that has passed every check, as the engine and the response builder need it."""

    request: ChatRequest
    generation: GenerationRequest
    head: Head
    headers: Mapping[str, str]

    def answers(self) -> list[Answer]:
        tools = self.request.tools
        return [
            Answer(
                index,
                reader(self.request),
                logprobs=self.request.logprobs is not None,
                legacy=tools.legacy,
                forced=tools.mode == "named",
            )
            for index in range(self.request.n)
        ]


async def answer(request: ApiRequest, language: Language, portability: Portability) -> ApiResponse:
    """The completion or its stream; everything that can fail is checked before a stream begins."""
    long = len(request.body) > _INLINE
    chat = await asyncio.to_thread(read, request) if long else read(request)
    if long or chat.format.type != "text" or chat.tools.declared:
        prepared = await asyncio.to_thread(prepare, chat, language, portability)
    else:
        prepared = prepare(chat, language, portability)
    events = language.engine.stream(prepared.generation)
    if chat.stream:
        return await _streamed(prepared, events)
    return ApiResponse.from_json(await _completed(prepared, events), headers=prepared.headers)


def read(request: ApiRequest) -> ChatRequest:
    """Raises `InvalidRequest` for a body that is no chat request."""
    return parse(request.json)


def prepare(chat: ChatRequest, language: Language, portability: Portability) -> Prepared:
    """From messages to token ids. Raises `InvalidRequest` and its kin."""
    served = language.names().chat(chat.model)
    bound = constraint(chat)
    messages = conversation(chat)
    language.check_length(sum(len(message["content"]) for message in messages))
    prompt = tuple(language.tokenizer.encode_chat(messages))
    generation = GenerationRequest(
        prompt=prompt,
        sampling=_sampling(chat, language),
        max_tokens=language.budget.of(chat, len(prompt)),
        n=chat.n,
        stop=chat.stop,
        constraint=bound,
        adapter=None if served == language.name else served,
        prediction=tuple(language.tokenizer.encode(chat.prediction)) if chat.prediction else (),
    )
    head = Head(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), served, language.fingerprint)
    return Prepared(chat, generation, head, _headers(chat, language, portability))


def _headers(chat: ChatRequest, language: Language, portability: Portability) -> dict[str, str]:
    headers = portability.headers(chat, foreign=not language.names().is_alias(chat.model))
    return {**headers, "x-ignored-params": ", ".join(chat.ignored)} if chat.ignored else headers


def _sampling(chat: ChatRequest, language: Language) -> Sampling:
    language.check_tokens([token for token, _ in chat.logit_bias])
    return Sampling(
        temperature=chat.temperature,
        top_p=chat.top_p,
        seed=chat.seed,
        presence_penalty=chat.presence_penalty,
        frequency_penalty=chat.frequency_penalty,
        logit_bias=chat.logit_bias,
        logprobs=chat.logprobs,
    )


async def _completed(prepared: Prepared, events: AsyncGenerator[Event, None]) -> dict[str, Any]:
    answers = prepared.answers()
    usage = Usage(0, 0)
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Piece):
                answers[event.index].grow(event.text, event.logprobs)
            elif isinstance(event, Finished):
                answers[event.index].end(event.reason)
            else:
                usage = event.usage
    return prepared.head.completion([answer.choice() for answer in answers], usage)


async def _streamed(prepared: Prepared, events: AsyncGenerator[Event, None]) -> ApiResponse:
    """Waits for the engine's first event, so that a refusal still has its own status."""
    try:
        first = await anext(events)
    except BaseException:
        await events.aclose()
        raise
    chunks = Chunks(prepared.head, prepared.answers(), include_usage=prepared.request.include_usage)
    stream = sse.EventStream(_chunks(chunks, first, events), events.aclose)
    return ApiResponse(200, {**sse.HEADERS, **prepared.headers}, stream)


async def _chunks(
    chunks: Chunks, first: Event, events: AsyncIterator[Event]
) -> AsyncIterator[dict[str, Any]]:
    for chunk in _SAY[type(first)](chunks, first):
        yield chunk
    async for event in events:
        for chunk in _SAY[type(event)](chunks, event):
            yield chunk


def _piece(chunks: Chunks, event: Any) -> Iterator[dict[str, Any]]:
    return chunks.piece(event.index, event.text, event.logprobs)


def _finished(chunks: Chunks, event: Any) -> Iterator[dict[str, Any]]:
    return chunks.finished(event.index, event.reason)


def _done(chunks: Chunks, event: Any) -> Iterator[dict[str, Any]]:
    return chunks.done(event.usage)


_SAY: dict[type, Callable[[Chunks, Any], Iterator[dict[str, Any]]]] = {
    Piece: _piece,
    Finished: _finished,
    Done: _done,
}
