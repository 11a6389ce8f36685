"""`chat.completion` objects and their chunks, field for field as OpenAI sends them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from tests.standin import tokens
from tests.standin.answers import Answer, answer, digest
from tests.standin.models import Model

_FINGERPRINT = "fp_51a1ce0d7b"


class Completion:
    """The answer to one checked chat request."""

    def __init__(self, body: dict[str, Any], model: Model) -> None:
        self.body = body
        self.answers = [answer(body, index) for index in range(body.get("n") or 1)]
        self.prompt = tokens.count_prompt(
            body["messages"], body.get("tools"), body.get("functions")
        )
        self.head = {
            "id": f"chatcmpl-{digest(body, time.monotonic_ns())}{digest(body)}",
            "created": int(time.time()),
            "model": model.snapshot,
            "service_tier": "default",
            "system_fingerprint": _FINGERPRINT,
        }

    @property
    def usage(self) -> dict[str, Any]:
        completion = sum(choice.tokens for choice in self.answers)
        predicted = tokens.count(_prediction(self.body))
        accepted = min(predicted, completion // 2)
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": completion,
            "total_tokens": self.prompt + completion,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": accepted,
                "rejected_prediction_tokens": predicted - accepted,
            },
        }

    def whole(self) -> dict[str, Any]:
        return {
            **self.head,
            "object": "chat.completion",
            "choices": [self._choice(i, choice) for i, choice in enumerate(self.answers)],
            "usage": self.usage,
        }

    def _choice(self, index: int, choice: Answer) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if choice.calls else choice.text,
            "refusal": None,
            "annotations": [],
        }
        if choice.legacy:
            call = choice.calls[0]
            message["function_call"] = {"name": call.name, "arguments": call.arguments}
        elif choice.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in choice.calls
            ]
        return {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(choice.pieces),
            "finish_reason": choice.finish,
        }

    def _logprobs(self, pieces: list[str]) -> dict[str, Any] | None:
        if not self.body.get("logprobs"):
            return None
        top = self.body.get("top_logprobs") or 0
        return {"content": [_logprob(piece, top) for piece in pieces], "refusal": None}

    def chunks(self) -> Iterator[dict[str, Any]]:
        """First a chunk with the role, then pieces, then the reason, then usage if asked for."""
        options = self.body.get("stream_options") or {}
        common = {**self.head, "object": "chat.completion.chunk"}
        if options.get("include_usage"):
            common["usage"] = None
        for index, choice in enumerate(self.answers):
            for delta, logprobs, finish in self._deltas(choice):
                one = {
                    "index": index,
                    "delta": delta,
                    "logprobs": logprobs,
                    "finish_reason": finish,
                }
                chunk = {**common, "choices": [one]}
                if options.get("include_obfuscation", True):
                    chunk["obfuscation"] = digest(delta)[: 1 + len(str(delta)) % 12]
                yield chunk
        if options.get("include_usage"):
            yield {**common, "choices": [], "usage": self.usage}

    def _deltas(self, choice: Answer) -> Iterator[tuple[dict[str, Any], Any, str | None]]:
        if choice.legacy:
            yield from _legacy_deltas(choice)
        elif choice.calls:
            yield from _call_deltas(choice)
        else:
            yield {"role": "assistant", "content": "", "refusal": None}, None, None
            for piece in choice.pieces:
                yield {"content": piece}, self._logprobs([piece]), None
        yield {}, None, choice.finish

    def events(self) -> Iterator[bytes]:
        for chunk in self.chunks():
            encoded = json.dumps(chunk, ensure_ascii=False, separators=(",", ":"))
            yield f"data: {encoded}\n\n".encode()
        yield b"data: [DONE]\n\n"


def _call_deltas(choice: Answer) -> Iterator[tuple[dict[str, Any], Any, str | None]]:
    for index, call in enumerate(choice.calls):
        opening = {
            "index": index,
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": ""},
        }
        first = {"role": "assistant", "content": None} if index == 0 else {}
        last = {"refusal": None} if index == 0 else {}
        yield {**first, "tool_calls": [opening], **last}, None, None
        for piece in tokens.pieces(call.arguments):
            yield (
                {"tool_calls": [{"index": index, "function": {"arguments": piece}}]},
                None,
                None,
            )


def _legacy_deltas(choice: Answer) -> Iterator[tuple[dict[str, Any], Any, str | None]]:
    call = choice.calls[0]
    yield (
        {
            "role": "assistant",
            "content": None,
            "function_call": {"name": call.name, "arguments": ""},
            "refusal": None,
        },
        None,
        None,
    )
    for piece in tokens.pieces(call.arguments):
        yield {"function_call": {"arguments": piece}}, None, None


def _logprob(piece: str, top: int) -> dict[str, Any]:
    def one(text: str, value: float) -> dict[str, Any]:
        return {"token": text, "logprob": value, "bytes": list(text.encode())}

    chosen = one(piece, -round(int(digest(piece)[:4], 16) / 65536, 6))
    others = [one(f"{piece}{rank}", chosen["logprob"] - rank) for rank in range(1, top)]
    return {**chosen, "top_logprobs": [dict(chosen), *others][:top]}


def _prediction(body: dict[str, Any]) -> str:
    prediction = body.get("prediction")
    return tokens.message_text(prediction) if prediction else ""
