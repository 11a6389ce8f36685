"""A turn with tools on a server that knows nothing of ours: text as it comes, calls under a bound.

Servers write and read tool calls each in their own way, or not at all. So the tools are described
to the model, and its calls written, exactly as with the engine in this process
(`provider.protocol.conversation`, `provider.protocol.tools`); of the server only text, and text
under a JSON Schema, is asked for.

Where the model is free (`tool_choice: auto`) it writes text. As soon as that opens a call the
server is stopped and asked once more, for the calls alone and under their schemas; it has the
prompt in its cache. Otherwise one request is enough.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from provider.base import ApiResponse
from provider.engine.request import Done, Event, Finished, Piece, TokenLogprob, Usage
from provider.errors import BadGateway
from provider.events import EventReader
from provider.protocol import breach
from provider.protocol.bound import Bound, Writing
from provider.protocol.chat import ChatRequest
from provider.protocol.conversation import conversation
from provider.protocol.normal import normal_error
from provider.protocol.tools import OPEN
from provider.remote_stream import fewer_than

Ask = Callable[[Mapping[str, Any]], Awaitable[ApiResponse]]
"""Sends a body and gives the answer, errors included."""

_OURS = ("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call")
_OF_TEXT = ("stop", "logprobs", "top_logprobs")
"""What says something about text; a call has none, and its end is its schema's."""


def untooled(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body without the fields that are taken care of here."""
    return {name: value for name, value in body.items() if name not in _OURS}


class Declined(BadGateway):
    """The server answered with an error: its status, and its body in OpenAI's shape."""

    def __init__(self, response: ApiResponse, said: dict[str, Any]) -> None:
        super().__init__(said["error"]["message"])
        self.response, self.said = response, said


@dataclass
class Turn:
    """One request with tools. `body` is what goes to the server beside messages and bounds."""

    ask: Ask
    chat: ChatRequest
    body: Mapping[str, Any]
    bound: Bound
    vllm: bool = False
    """A server that, when asked to, counts tokens while it streams and shows control tokens."""
    _tally: Tally = field(init=False, default_factory=lambda: Tally())

    async def events(self) -> AsyncGenerator[Event, None]:
        """As the engine's. Raises `Declined` for a refusal, and what the servers' streams raise;
        closing it cancels the server's work."""
        if self.chat.tools.mode == "auto" and self.chat.format.type == "text":
            calling: list[int] = []
            async with aclosing(self._free(calling)) as events:
                async for event in events:
                    yield self._counted(event)
            for index in calling:
                async with aclosing(self._called(index)) as events:
                    async for event in events:
                        yield self._counted(event)
        else:
            async with aclosing(self._held(self._held_body(), self.chat.n)) as events:
                async for event in events:
                    yield self._counted(event)
        yield Done(self._tally.usage())

    def _counted(self, event: Event) -> Event:
        if isinstance(event, Done) or not self.chat.running_usage:
            return event
        return replace(event, usage=self._tally.running())

    async def _free(self, calling: list[int]) -> AsyncGenerator[Event, None]:
        """Text of all answers; those that open a call go into `calling` and are left there."""
        listening = dict.fromkeys(range(self.chat.n), "")
        shown = {"skip_special_tokens": False} if self.vllm else {}  # `<tool_call>` may be one
        body = {**self.body, **shown, "messages": conversation(self.chat)}
        async with aclosing(self._chunks(body)) as chunks:
            async for choice in chunks:
                index = choice["index"]
                if index not in listening:
                    continue
                text, listening[index], opened = _until_call(listening[index], _text(choice))
                if text:
                    yield Piece(index, text, _tokens(choice))
                if opened or choice.get("finish_reason") is not None:
                    del listening[index]
                if opened:
                    calling.append(index)
                elif index not in listening:
                    yield Finished(index, _reason(choice))
                if calling and not listening:
                    break
        if listening:
            raise fewer_than(self.chat.n)
        self._tally.close()

    async def _called(self, index: int) -> AsyncGenerator[Event, None]:
        """The calls of an answer that has opened one."""
        body = {**self._held_body(required=True), "n": 1}
        if self.chat.max_tokens is not None:
            left = self.chat.max_tokens - self._tally.spent(index)
            if left <= 0:
                yield Finished(index, "length")
                return
            body[self.chat.max_tokens_param] = left
        opening = len(OPEN)  # has been written already
        async with aclosing(self._held(body, 1)) as events:
            async for event in events:
                if isinstance(event, Piece):
                    text = event.text[opening:]
                    opening = max(0, opening - len(event.text))
                    event = replace(event, text=text)
                yield replace(event, index=index)

    def _held_body(self, *, required: bool = False) -> dict[str, Any]:
        chat = self.chat
        if required:
            chat = replace(chat, tools=replace(chat.tools, mode="required"))
        certain = chat.tools.mode != "auto"
        kept = {k: v for k, v in self.body.items() if not (certain and k in _OF_TEXT)}
        said = conversation(chat, *self.bound.instructions)
        return {**kept, **self.bound.fields, "messages": said}

    async def _held(
        self, body: Mapping[str, Any], n: int
    ) -> AsyncGenerator[Piece | Finished, None]:
        """Answers that are held to the bound."""
        written: list[Writing] = [self.bound.writing() for _ in range(n)]
        unfinished = dict.fromkeys(range(n), "")
        async with aclosing(self._chunks(body)) as chunks:
            async for choice in chunks:
                index, tokens = choice["index"], _tokens(choice)
                if index not in unfinished:
                    continue
                unfinished[index] += _text(choice)
                text = written[index].feed(_text(choice))
                ended = choice.get("finish_reason") is not None
                if ended:
                    text += written[index].close(_reason(choice))
                if text or tokens:
                    yield Piece(index, text, tokens)
                if ended:
                    whole = unfinished.pop(index)
                    if _reason(choice) == "stop" and "stop" not in body:
                        breach.check(self.bound.schema, whole)
                    yield Finished(index, _reason(choice))
        if unfinished:
            raise fewer_than(n)
        self._tally.close()

    async def _chunks(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The choices of a stream, one by one."""
        counts = {"continuous_usage_stats": True} if self.vllm else {}
        options = {"include_usage": True, **counts}
        response = await self.ask({**body, "stream": True, "stream_options": options})
        if isinstance(response.body, bytes):
            raise Declined(response, normal_error(_json(response.body), response.status))
        reader = EventReader()
        try:
            async for piece in response.body:
                for chunk in reader.read(piece):
                    if "error" in chunk:
                        raise BadGateway(normal_error(chunk, 500)["error"]["message"])
                    self._tally.see(chunk)
                    for choice in chunk.get("choices") or ():
                        yield choice
        finally:
            await response.body.aclose()


@dataclass
class Tally:
    """Counts tokens over several requests: the server's own counts where it sends them, else one
    for each piece of text."""

    _prompt: int = 0
    _cached: int = 0
    _completion: int = 0
    _total: int | None = None
    _now: dict[int, int] = field(default_factory=dict)
    _before: dict[int, int] = field(default_factory=dict)

    def see(self, chunk: Mapping[str, Any]) -> None:
        usage, choices = chunk.get("usage"), chunk.get("choices") or ()
        for choice in choices:
            one = self._now.get(choice["index"], 0) + bool(_text(choice))
            counted = usage["completion_tokens"] if usage and len(choices) == 1 else one
            self._now[choice["index"]] = counted
        if not usage:
            return
        if not self._prompt:
            self._prompt = usage.get("prompt_tokens") or 0
            self._cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        if not choices:
            self._total = usage["completion_tokens"]

    def close(self) -> None:
        """A request is over."""
        self._completion += sum(self._now.values()) if self._total is None else self._total
        self._before = self._now | self._before
        self._total, self._now = None, {}

    def spent(self, index: int) -> int:
        """Tokens of an answer before it opened a call."""
        return self._before.get(index, 0)

    def running(self) -> Usage:
        """With what the request under way has said so far."""
        return Usage(self._prompt, self._completion + sum(self._now.values()), self._cached)

    def usage(self) -> Usage:
        return Usage(self._prompt, self._completion, self._cached)


def _until_call(before: str, text: str) -> tuple[str, str, bool]:
    """What of `text` belongs to the answer, the end that may begin a call, and whether one opens.

    `before` is that end of the text so far.
    """
    seen = before + text
    at = seen.find(OPEN)
    if at >= 0:
        return seen[len(before) : at + len(OPEN)], "", True
    return text, seen[-len(OPEN) + 1 :], False


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _text(choice: Mapping[str, Any]) -> str:
    return (choice.get("delta") or {}).get("content") or ""


def _reason(choice: Mapping[str, Any]) -> Any:
    return "length" if choice.get("finish_reason") == "length" else "stop"


def _tokens(choice: Mapping[str, Any]) -> tuple[TokenLogprob, ...]:
    content = (choice.get("logprobs") or {}).get("content") or ()
    return tuple(
        TokenLogprob(
            -1,
            _data(token),
            token["logprob"],
            tuple(
                (-1, _data(other), other["logprob"]) for other in token.get("top_logprobs") or ()
            ),
        )
        for token in content
    )


def _data(token: Mapping[str, Any]) -> bytes:
    data = token.get("bytes")
    return str(token["token"]).encode() if data is None else bytes(data)
