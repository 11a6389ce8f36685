"""POST /v1/chat/completions, answered by the engine in this process."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from provider.base import ApiRequest, ApiResponse
from provider.engine.request import Ending, GenerationRequest, Sampling
from provider.local.language import Language
from provider.local.portable import Portability
from provider.protocol import replies, sse
from provider.protocol.chat import ChatRequest, parse
from provider.protocol.completion import Head
from provider.protocol.constraints import constraint, enforceable
from provider.protocol.conversation import conversation
from provider.protocol.portability import header

INLINE = 16_384
"""Bytes of a body that is read on the event loop. A longer one, and whatever needs a grammar to be
compiled, goes to a thread, so that other requests are not held up."""


@dataclass(frozen=True)
class Prepared:
    """A request that has passed every check, as the engine and the response builder need it."""

    request: ChatRequest
    generation: GenerationRequest
    head: Head
    headers: Mapping[str, str]


async def answer(request: ApiRequest, language: Language, portability: Portability) -> ApiResponse:
    """The completion or its stream; everything that can fail is checked before a stream begins."""
    long = len(request.body) > INLINE
    chat = await asyncio.to_thread(read, request) if long else read(request)
    if long or chat.format.type != "text" or chat.tools.declared:
        prepared = await asyncio.to_thread(prepare, chat, language, portability)
    else:
        prepared = prepare(chat, language, portability)
    events = language.engine.stream(prepared.generation)
    if chat.stream:
        stream = await replies.streamed(chat, prepared.head, events)
        return ApiResponse(200, {**sse.HEADERS, **prepared.headers}, stream)
    completion = await replies.completed(chat, prepared.head, events)
    return ApiResponse.from_json(completion, headers=prepared.headers)


def read(request: ApiRequest) -> ChatRequest:
    """Raises `InvalidRequest` for a body that is no chat request."""
    return parse(request.json)


def prepare(chat: ChatRequest, language: Language, portability: Portability) -> Prepared:
    """From messages to token ids. Raises `InvalidRequest` and its kin."""
    served = language.names().chat(chat.model)
    chat = enforceable(chat)
    bound = constraint(chat)
    messages = conversation(chat)
    language.check_length(sum(len(message["content"]) for message in messages))
    prompt = tuple(language.tokenizer.encode_chat(messages))
    generation = GenerationRequest(
        prompt=prompt,
        sampling=sampling(chat, language),
        max_tokens=language.budget.of(chat, len(prompt)),
        n=chat.n,
        stop=chat.stop,
        constraint=bound,
        adapter=None if served == language.name else served,
        prediction=tuple(language.tokenizer.encode(chat.prediction)) if chat.prediction else (),
        running_usage=chat.running_usage,
        ending=ending(chat, language),
    )
    head = Head(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), served, language.fingerprint)
    return Prepared(chat, generation, head, _headers(chat, language, portability))


def _headers(chat: ChatRequest, language: Language, portability: Portability) -> dict[str, str]:
    headers = portability.headers(chat, foreign=not language.names().is_alias(chat.model))
    return {**headers, "x-ignored-params": header(chat.ignored, ", ")} if chat.ignored else headers


def sampling(chat: ChatRequest, language: Language) -> Sampling:
    language.check_tokens([token for token, _ in chat.logit_bias], "logit_bias")
    return Sampling(
        temperature=chat.temperature,
        top_p=chat.top_p,
        seed=chat.seed,
        presence_penalty=chat.presence_penalty,
        frequency_penalty=chat.frequency_penalty,
        logit_bias=chat.logit_bias,
        logprobs=chat.logprobs,
        top_k=chat.extras.top_k,
        min_p=chat.extras.min_p,
        repetition_penalty=chat.extras.repetition_penalty,
    )


def ending(chat: ChatRequest, language: Language) -> Ending:
    extras = chat.extras
    language.check_tokens(extras.stop_token_ids, "stop_token_ids")
    return Ending(
        extras.stop_token_ids,
        extras.include_stop_str_in_output,
        extras.min_tokens,
        extras.ignore_eos,
    )
