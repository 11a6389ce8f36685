"""Answers of the chat API: `chat.completion` and its chunks, from what the engine sends.

`Answer` follows one of a request's n answers. Both the whole completion and the stream are made of
the same deltas, so they cannot differ. Every field that OpenAI's component schemas
(CreateChatCompletionResponse, CreateChatCompletionStreamResponse) require or make nullable is
present.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from provider.engine.request import TokenLogprob, Usage
from provider.protocol.deltas import CallArguments, CallStart, Delta, Reader, Text

_CALLED = {True: "function_call", False: "tool_calls"}


@dataclass(frozen=True, slots=True)
class Head:
    """What every object of one response repeats. `created` is Unix seconds; an empty fingerprint
    is left out."""

    id: str
    created: int
    model: str
    fingerprint: str

    def completion(self, choices: Sequence[Any], usage: Usage) -> dict[str, Any]:
        return {
            **self._fields("chat.completion", list(choices)),
            "usage": usage_object(usage),
            "service_tier": "default",
            **self._fingerprint(),
        }

    def chunk(self, choices: Sequence[Any]) -> dict[str, Any]:
        return {
            **self._fields("chat.completion.chunk", list(choices)),
            "service_tier": "default",
            **self._fingerprint(),
        }

    def _fingerprint(self) -> dict[str, str]:
        return {"system_fingerprint": self.fingerprint} if self.fingerprint else {}

    def _fields(self, kind: str, choices: list[Any]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


@dataclass
class Answer:
    """One answer while it grows.

    `legacy` calls are spelt `function_call`; `forced` ones end `stop`, as OpenAI's do when the
    choice names the function.
    """

    index: int
    reader: Reader
    logprobs: bool = False
    legacy: bool = False
    forced: bool = False
    text: list[str] = field(init=False, default_factory=list)
    calls: list[CallStart] = field(init=False, default_factory=list)
    arguments: list[list[str]] = field(init=False, default_factory=list)
    tokens: list[TokenLogprob] = field(init=False, default_factory=list)
    reason: str | None = field(init=False, default=None)
    _waiting: list[TokenLogprob] = field(init=False, default_factory=list)

    def grow(self, text: str, logprobs: Sequence[TokenLogprob] = ()) -> list[Step]:
        """The steps that this piece of text completes."""
        self._waiting += logprobs
        return [self._step(delta) for delta in self.reader.feed(text)]

    def end(self, reason: Literal["stop", "length"]) -> list[Step]:
        """The last steps; `reason` is the engine's."""
        steps = [self._step(delta) for delta in self.reader.close()]
        if self._waiting and not self.calls:  # of last tokens that have no text
            steps.append(self._step(Text("")))
        called = reason == "stop" and self.calls and not self.forced
        self.reason = _CALLED[self.legacy] if called else reason
        return steps

    def _step(self, delta: Delta) -> Step:
        waiting, self._waiting = self._waiting, []
        kept = tuple(waiting) if isinstance(delta, Text) else ()
        self.tokens += kept
        _COLLECT[type(delta)](self, delta)
        return Step(delta, kept)

    def choice(self) -> dict[str, Any]:
        """The finished answer as a choice of `chat.completion`."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(self.text) if self.text or not self.calls else None,
            "refusal": None,
            "annotations": [],
        }
        if self.calls:
            message |= self._called()
        wanted = self.logprobs and not (self.calls and not self.text)
        return {
            "index": self.index,
            "message": message,
            "logprobs": logprobs_object(self.tokens) if wanted else None,
            "finish_reason": self.reason,
        }

    def _called(self) -> dict[str, Any]:
        bodies = [
            {"name": call.name, "arguments": "".join(arguments)}
            for call, arguments in zip(self.calls, self.arguments, strict=True)
        ]
        if self.legacy:
            return {"function_call": bodies[0]}
        return {
            "tool_calls": [
                {"id": call.id, "type": "function", "function": body}
                for call, body in zip(self.calls, bodies, strict=True)
            ]
        }


@dataclass(frozen=True, slots=True)
class Step:
    """A delta and the log-probabilities of the text in it."""

    delta: Delta
    logprobs: tuple[TokenLogprob, ...] = ()


def _collect_text(answer: Answer, delta: Any) -> None:
    answer.text.append(delta.text)


def _collect_call(answer: Answer, delta: Any) -> None:
    answer.calls.append(delta)
    answer.arguments.append([])


def _collect_arguments(answer: Answer, delta: Any) -> None:
    answer.arguments[delta.index].append(delta.text)


_COLLECT: dict[type, Callable[[Answer, Any], None]] = {
    Text: _collect_text,
    CallStart: _collect_call,
    CallArguments: _collect_arguments,
}


def logprobs_object(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """ChoiceLogprobs: `bytes` are the token's own, so that joined bytes give the text; `token` is
    their reading, with bytes that are only a part of a character spelt out, as OpenAI does
    (`\\xed\\x95`)."""
    content = [
        {
            **_token(token.data, token.logprob),
            "top_logprobs": [_token(data, logprob) for _, data, logprob in token.top],
        }
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _token(data: bytes, logprob: float) -> dict[str, Any]:
    # JSON has no infinity; OpenAI writes -9999.0 for a token out of reach.
    bounded = max(logprob, -9999.0)
    text = data.decode("utf-8", "backslashreplace")
    return {"token": text, "logprob": bounded, "bytes": list(data)}


def usage_object(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": usage.accepted_prediction,
            "rejected_prediction_tokens": usage.rejected_prediction,
        },
    }
