"""POST /v1/completions, answered by the engine in this process."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace

from provider.base import ApiRequest, ApiResponse
from provider.engine.request import GenerationRequest
from provider.errors import ContextTooLong
from provider.local.chat import INLINE, ending, sampling
from provider.local.language import Language
from provider.local.merged import merged
from provider.local.portable import Portability
from provider.protocol import portability as rules
from provider.protocol import sse, text_replies
from provider.protocol.completion import Head
from provider.protocol.constraints import constraint
from provider.protocol.inputs import Input
from provider.protocol.texts import DEFAULT_TOKENS, TextRequest, parse
from provider.protocol.values import invalid


async def answer(request: ApiRequest, language: Language, portability: Portability) -> ApiResponse:
    """The completion of every prompt, or their stream."""
    asked = parse(request.json)
    served = language.names().chat(asked.chat.model)
    headers = _headers(asked, language, portability)
    if len(request.body) > INLINE or asked.chat.format.type != "text":
        prepared = await asyncio.to_thread(_prepared, asked, served, language)
    else:
        prepared = _prepared(asked, served, language)
    events = merged([language.engine.stream(one) for one in prepared], asked.chat.n)
    head = Head(f"cmpl-{uuid.uuid4().hex}", int(time.time()), served, language.fingerprint)
    grown = text_replies.answers(asked, _begins(asked, language), _firsts(prepared, language))
    if asked.chat.stream:
        stream = await text_replies.streamed(asked, grown, head, events)
        return ApiResponse(200, {**sse.HEADERS, **headers}, stream)
    body = await text_replies.completed(grown, head, events)
    return ApiResponse.from_json(body, headers=headers)


def _prepared(asked: TextRequest, served: str, language: Language) -> list[GenerationRequest]:
    """One request of the engine for each prompt. Raises `InvalidRequest` and its kin."""
    chat = asked.chat
    first = GenerationRequest(
        prompt=(),
        sampling=sampling(chat, language),
        n=chat.n,
        stop=chat.stop,
        constraint=constraint(chat),
        adapter=None if served == language.name else served,
        running_usage=chat.running_usage,
        ending=ending(chat, language),
    )
    several = len(asked.prompts) > 1
    return [
        _asking(first, item, f"prompt[{number}]" if several else "prompt", asked, language)
        for number, item in enumerate(asked.prompts)
    ]


def _asking(
    first: GenerationRequest, item: Input, path: str, asked: TextRequest, language: Language
) -> GenerationRequest:
    try:
        if isinstance(item, str):
            language.check_length(len(item))
        prompt = _tokens(item, path, language)
        most = language.budget.of(asked.chat, len(prompt))
    except ContextTooLong as error:
        error.param = path
        raise
    if asked.chat.max_tokens is None:
        most = min(most, max(DEFAULT_TOKENS, asked.chat.extras.min_tokens))
    asking = replace(first, prompt=prompt, max_tokens=most)
    return replace(asking, prompt=prompt[:1], given=prompt[1:]) if asked.scores_prompt else asking


def _tokens(item: Input, path: str, language: Language) -> tuple[int, ...]:
    if isinstance(item, str):
        return tuple(language.tokenizer.encode_prompt(item))
    for number, token in enumerate(item):
        if token >= language.tokenizer.vocab_size:
            raise invalid(
                f"{path}[{number}]",
                f"token id {token} is out of vocabulary; the largest is "
                f"{language.tokenizer.vocab_size - 1}.",
            )
    return item


def _begins(asked: TextRequest, language: Language) -> list[str]:
    """What each answer repeats of its prompt."""
    if not asked.echo:
        return [""] * len(asked.prompts)
    decode = language.tokenizer.decode
    return [
        item if isinstance(item, str) else decode(item, keep_special=True) for item in asked.prompts
    ]


def _firsts(prepared: Sequence[GenerationRequest], language: Language) -> list[bytes]:
    """The first token of each prompt, which follows nothing and has no log-probability."""
    return [language.tokenizer.token_bytes(one.prompt[0]) for one in prepared]


def _headers(asked: TextRequest, language: Language, portability: Portability) -> dict[str, str]:
    foreign = not language.names().is_alias(asked.chat.model)
    headers = portability.headers(asked.chat, foreign=foreign, further=(rules.text_completion(),))
    if asked.chat.ignored:
        headers["x-ignored-params"] = rules.header(asked.chat.ignored, ", ")
    return headers
