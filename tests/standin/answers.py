"""What the stand-in's model says: drawn from the request alone, so that tests can expect it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from tests.standin import tokens
from tests.standin.instances import instance

_CALL_FRAME = 2
"""Tokens of a call beside its arguments."""


@dataclass(frozen=True)
class Call:
    id: str
    name: str
    arguments: str


@dataclass
class Answer:
    """One choice: text as tokens, or calls. `finish` is OpenAI's finish_reason."""

    pieces: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    legacy: bool = False
    finish: str = "stop"

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def tokens(self) -> int:
        called = sum(_CALL_FRAME + tokens.count(call.arguments) for call in self.calls)
        return len(self.pieces) + called


def digest(*parts: Any) -> str:
    """Twelve hexadecimal digits that follow from the parts."""
    encoded = json.dumps(parts, ensure_ascii=False, sort_keys=True).encode()
    return hashlib.sha256(encoded).hexdigest()[:12]


def answer(body: dict[str, Any], index: int) -> Answer:
    """Choice `index` of the request's answer, cut and stopped as it asks."""
    seed = digest(body["messages"], body.get("seed"), body.get("model"), index)
    calls = _calls(body, seed)
    if calls:
        return calls
    wanted = (body.get("response_format") or {"type": "text"})["type"]
    if wanted == "json_schema":
        schema = body["response_format"]["json_schema"]["schema"]
        text = _compact(instance(schema, seed))
    elif wanted == "json_object":
        text = _compact({"answer": _said(body), "id": seed})
    else:
        text = f"{_said(body)} [{seed}] 라고 하셨습니다. That is all there is to say about it."
    return _cut(text, body)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _said(body: dict[str, Any]) -> str:
    """The last message, shortened; a tool's result therefore shows in the answer to it."""
    return " ".join(tokens.message_text(body["messages"][-1]).split())[:200]


def _cut(text: str, body: dict[str, Any]) -> Answer:
    finish = "stop"
    stops = body.get("stop") or []
    ends = [text.find(stop) for stop in ([stops] if isinstance(stops, str) else stops) if stop]
    if found := [end for end in ends if end >= 0]:
        text = text[: min(found)]
    pieces = tokens.pieces(text)
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    if most is not None and len(pieces) > most:
        pieces, finish = pieces[:most], "length"
    return Answer(pieces, finish=finish)


def _calls(body: dict[str, Any], seed: str) -> Answer | None:
    """Calls if the request forces one, or if `auto` and the last user text names a tool."""
    if body.get("functions"):
        return _legacy_call(body, seed)
    tools = {
        tool["function"]["name"]: tool["function"]
        for tool in body.get("tools") or ()
        if tool["type"] == "function"
    }
    choice = body.get("tool_choice") or "auto"
    if not tools or choice == "none":
        return None
    if isinstance(choice, dict):
        chosen = [choice["function"]["name"]]
    else:
        chosen = _named_in_prompt(body, list(tools))
        if choice == "required" and not chosen:
            chosen = [next(iter(tools))]
    if body.get("parallel_tool_calls") is False:
        chosen = chosen[:1]
    calls = [
        Call(f"call_{digest(seed, name, n)}{digest(n, seed)}", name, _arguments(tools[name], seed))
        for n, name in enumerate(chosen)
    ]
    finish = "stop" if isinstance(choice, dict) else "tool_calls"
    return _cut_calls(Answer(calls=calls, finish=finish), body) if calls else None


def _cut_calls(whole: Answer, body: dict[str, Any]) -> Answer:
    """The calls as far as the limit goes; OpenAI cuts arguments anywhere."""
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    if most is None or whole.tokens <= most:
        return whole
    first = whole.calls[0]
    kept = "".join(tokens.pieces(first.arguments)[: max(0, most - _CALL_FRAME)])
    return Answer(calls=[Call(first.id, first.name, kept)], legacy=whole.legacy, finish="length")


def _arguments(function: dict[str, Any], seed: str) -> str:
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    return _compact(instance(schema, digest(seed, function["name"])))


def _named_in_prompt(body: dict[str, Any], names: list[str]) -> list[str]:
    """The tools that the last message, if it is the user's, mentions by a word of their name."""
    last = body["messages"][-1]
    if last["role"] != "user":
        return []
    said = tokens.message_text(last).lower()
    generic = {"get", "set", "find", "the", "tool", "search", "current", "final", "result"}
    return [
        name
        for name in names
        if any(word in said for word in name.lower().split("_") if word not in generic)
    ]


def _legacy_call(body: dict[str, Any], seed: str) -> Answer | None:
    functions = {function["name"]: function for function in body["functions"]}
    choice = body.get("function_call") or "auto"
    if choice == "none":
        return None
    if isinstance(choice, dict):
        chosen, finish = [choice["name"]], "stop"
    else:
        chosen, finish = _named_in_prompt(body, list(functions)), "function_call"
    if not chosen:
        return None
    call = Call("", chosen[0], _arguments(functions[chosen[0]], seed))
    return _cut_calls(Answer(calls=[call], legacy=True, finish=finish), body)
