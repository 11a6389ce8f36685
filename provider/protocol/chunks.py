"""The chunks of a streamed chat completion, in OpenAI's order.

For each answer: the role, the deltas, and one chunk with the finish reason and an empty delta; when
asked for, at the very end a chunk with the usage and no choices, and on all others `usage: null`,
or the usage so far (vLLM's `continuous_usage_stats`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from provider.engine.request import TokenLogprob, Usage
from provider.protocol.completion import Answer, Head, Step, logprobs_object, usage_object
from provider.protocol.deltas import CallArguments, CallStart, Text


class Chunks:
    """State of one stream; feed it the engine's events in order."""

    def __init__(self, head: Head, answers: Sequence[Answer], *, include_usage: bool) -> None:
        self._head = head
        self._answers = answers
        self._include_usage = include_usage
        self._begun: set[int] = set()
        self._now: Usage | None = None

    def counted(self, usage: Usage | None) -> None:
        """Takes the usage so far for the next chunks; None where it was not asked for."""
        self._now = usage

    def piece(
        self, index: int, text: str, logprobs: Sequence[TokenLogprob] = ()
    ) -> Iterator[dict[str, Any]]:
        answer = self._answers[index]
        for step in answer.grow(text, logprobs):
            yield from self._step(answer, step)

    def finished(self, index: int, reason: Literal["stop", "length"]) -> Iterator[dict[str, Any]]:
        answer = self._answers[index]
        for step in answer.end(reason):
            yield from self._step(answer, step)
        if index not in self._begun:
            yield self._role(answer)
        yield self._chunk(answer, {}, reason=answer.reason)

    def done(self, usage: Usage) -> Iterator[dict[str, Any]]:
        if self._include_usage:
            yield {**self._head.chunk([]), "usage": usage_object(usage)}

    def _step(self, answer: Answer, step: Step) -> Iterator[dict[str, Any]]:
        delta = _DELTAS[type(step.delta)](step.delta, answer.legacy)
        if answer.index not in self._begun:
            if isinstance(step.delta, CallStart):
                # OpenAI puts role and the first call into one chunk, with content null.
                self._begun.add(answer.index)
                delta = {"role": "assistant", "content": None, **delta, "refusal": None}
            else:
                yield self._role(answer)
        logprobs = logprobs_object(step.logprobs) if answer.logprobs and step.logprobs else None
        yield self._chunk(answer, delta, logprobs)

    def _role(self, answer: Answer) -> dict[str, Any]:
        self._begun.add(answer.index)
        return self._chunk(answer, {"role": "assistant", "content": "", "refusal": None})

    def _chunk(
        self, answer: Answer, delta: Any, logprobs: Any = None, reason: str | None = None
    ) -> dict[str, Any]:
        choice = {
            "index": answer.index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": reason,
        }
        chunk = self._head.chunk([choice])
        if self._now is not None:
            return {**chunk, "usage": usage_object(self._now)}
        return {**chunk, "usage": None} if self._include_usage else chunk


def _text(delta: Any, legacy: bool) -> dict[str, Any]:
    return {"content": delta.text}


def _call_start(delta: Any, legacy: bool) -> dict[str, Any]:
    function = {"name": delta.name, "arguments": ""}
    if legacy:
        return {"function_call": function}
    call = {"index": delta.index, "id": delta.id, "type": "function", "function": function}
    return {"tool_calls": [call]}


def _call_arguments(delta: Any, legacy: bool) -> dict[str, Any]:
    function = {"arguments": delta.text}
    if legacy:
        return {"function_call": function}
    return {"tool_calls": [{"index": delta.index, "function": function}]}


_DELTAS = {Text: _text, CallStart: _call_start, CallArguments: _call_arguments}
