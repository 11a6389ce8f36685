"""Answers of the text completions API: `text_completion`, whole or in chunks of the same shape."""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from provider.engine.request import Done, Event, Finished, Piece, TokenLogprob, Usage
from provider.protocol import sse
from provider.protocol.completion import Head, usage_object
from provider.protocol.replies import begun
from provider.protocol.texts import TextRequest


@dataclass
class TextAnswer:
    """One answer while it grows; `begin` is what it repeats of its prompt (`echo`), `first` that
    prompt's first token where its other ones come with log-probabilities."""

    index: int
    begin: str = ""
    scored: bool = False
    first: bytes | None = None
    text: list[str] = field(init=False, default_factory=list)
    tokens: list[TokenLogprob] = field(init=False, default_factory=list)
    reason: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._offset = len(self.begin) if self.first is None else 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def choice(self) -> dict[str, Any]:
        """The finished answer."""
        return self.part(self.begin + "".join(self.text), self.tokens)

    def part(self, text: str, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
        return {
            "index": self.index,
            "text": text,
            "logprobs": self._logprobs(tokens) if self.scored else None,
            "finish_reason": self.reason,
        }

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
        """OpenAI's older shape; the chosen token is always among the `top_logprobs`, and offsets
        are characters of the whole text."""
        first, self.first = self.first, None
        unscored = [] if first is None else [first]
        return {
            "tokens": [*map(_text, unscored), *(_text(token.data) for token in tokens)],
            "token_logprobs": [
                *(None for _ in unscored),
                *(_bounded(token.logprob) for token in tokens),
            ],
            "top_logprobs": [*(None for _ in unscored), *map(_top, tokens)],
            "text_offset": [
                *map(self._begun, unscored),
                *(self._begun(token.data) for token in tokens),
            ],
        }

    def _begun(self, data: bytes) -> int:
        """Where a token's text begins; the next one's begins after it."""
        at = self._offset
        self._offset += len(self._decoder.decode(data))
        return at


def _top(token: TokenLogprob) -> dict[str, float]:
    """Two tokens with one text (parts of characters aside, there are none) share an entry."""
    likely = {_text(data): _bounded(logprob) for _, data, logprob in reversed(token.top)}
    return {**dict(reversed(likely.items())), _text(token.data): _bounded(token.logprob)}


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _bounded(logprob: float) -> float:
    return max(logprob, -9999.0)  # JSON has no infinity


def answers(
    request: TextRequest, begins: Sequence[str], firsts: Sequence[bytes]
) -> list[TextAnswer]:
    """Each prompt's answers, none begun; `begins` and `firsts` have one entry for each prompt."""
    scored = request.chat.logprobs is not None
    n = request.chat.n
    return [
        TextAnswer(number * n + index, begin, scored, first if request.scores_prompt else None)
        for number, (begin, first) in enumerate(zip(begins, firsts, strict=True))
        for index in range(n)
    ]


async def completed(
    grown: list[TextAnswer], head: Head, events: AsyncGenerator[Event, None]
) -> dict[str, Any]:
    """The whole `text_completion`; `events` are closed whatever happens."""
    usage = Usage(0, 0)
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Piece):
                grown[event.index].text.append(event.text)
                grown[event.index].tokens += event.logprobs
            elif isinstance(event, Finished):
                grown[event.index].reason = event.reason
            else:
                usage = event.usage
    choices = [answer.choice() for answer in grown]
    return {**_object(head, choices), "usage": usage_object(usage)}


async def streamed(
    request: TextRequest,
    grown: list[TextAnswer],
    head: Head,
    events: AsyncGenerator[Event, None],
) -> sse.EventStream:
    first = await begun(events)
    chunks = _chunks(_Stream(request, grown, head), first, events)
    return sse.EventStream(chunks, events.aclose)


@dataclass
class _Stream:
    request: TextRequest
    grown: list[TextAnswer]
    head: Head

    def begin(self) -> list[dict[str, Any]]:
        """The prompts, where they are to be repeated."""
        return [self._chunk(answer.part(answer.begin, ())) for answer in self.grown if answer.begin]

    def chunk(self, event: Piece | Finished) -> dict[str, Any]:
        answer = self.grown[event.index]
        if isinstance(event, Piece):
            return self._chunk(answer.part(event.text, event.logprobs), event.usage)
        answer.reason = event.reason
        return self._chunk(answer.part("", ()), event.usage)

    def done(self, usage: Usage) -> list[dict[str, Any]]:
        asked = self.request.chat.include_usage
        return [{**_object(self.head, []), "usage": usage_object(usage)}] if asked else []

    def _chunk(self, choice: dict[str, Any], usage: Usage | None = None) -> dict[str, Any]:
        chunk = _object(self.head, [choice])
        if self.request.chat.include_usage:
            chunk["usage"] = None if usage is None else usage_object(usage)
        return chunk


async def _chunks(
    stream: _Stream, first: Event, events: AsyncIterator[Event]
) -> AsyncIterator[dict[str, Any]]:
    for chunk in stream.begin():
        yield chunk
    for chunk in _said(stream, first):
        yield chunk
    async for event in events:
        for chunk in _said(stream, event):
            yield chunk


def _said(stream: _Stream, event: Event) -> list[dict[str, Any]]:
    return stream.done(event.usage) if isinstance(event, Done) else [stream.chunk(event)]


def _object(head: Head, choices: list[dict[str, Any]]) -> dict[str, Any]:
    fingerprint = {"system_fingerprint": head.fingerprint} if head.fingerprint else {}
    return {
        "id": head.id,
        "object": "text_completion",
        "created": head.created,
        "model": head.model,
        "choices": choices,
        **fingerprint,
    }
