"""What newer hosted models want otherwise: a visible table of parameter changes.

OpenAI's reasoning models refuse `max_tokens` (they want `max_completion_tokens`) and temperatures
other than the default. `OPENAI_ADAPT=on` rewrites such requests and names each change in the
response header `x-adapted-params`; `off` (the default) forwards byte for byte.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from provider.base import ApiRequest, ApiResponse, Holder


@dataclass(frozen=True, slots=True)
class Rule:
    """For models that match `models`: `parameter` is renamed to `to`, or left out (`to` None)."""

    models: tuple[str, ...]
    parameter: str
    to: str | None


_REASONING = ("o1*", "o3*", "o4*", "gpt-5*", "gpt-6*")

RULES: tuple[Rule, ...] = (
    Rule(_REASONING, "max_tokens", "max_completion_tokens"),
    Rule(_REASONING, "temperature", None),
    Rule(_REASONING, "top_p", None),
    Rule(_REASONING, "presence_penalty", None),
    Rule(_REASONING, "frequency_penalty", None),
    Rule(_REASONING, "logprobs", None),
    Rule(_REASONING, "top_logprobs", None),
    Rule(_REASONING, "logit_bias", None),
)


def adapted(body: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The body as its model wants it, and each change (`max_tokens->max_completion_tokens`)."""
    result, changes = dict(body), []
    model = str(body.get("model", ""))
    for rule in RULES:
        if rule.parameter not in result or not _matches(model, rule.models):
            continue
        value = result.pop(rule.parameter)
        if rule.to is not None:
            result.setdefault(rule.to, value)
        changes.append(f"{rule.parameter}->{rule.to or 'left out'}")
    return result, changes


class Adapt(Holder):
    """A provider that holds a hosted one and adapts chat requests to newer models."""

    forwards_here = True

    async def answer(self, request: ApiRequest) -> ApiResponse:
        if request.path != "/v1/chat/completions" or not request.body:
            return await self._inner.answer(request)
        body, changes = adapted(request.json)
        if not changes:
            return await self._inner.answer(request)
        response = await self._inner.answer(request.with_json(body))
        headers = {**response.headers, "x-adapted-params": ", ".join(changes)}
        return replace(response, headers=headers)


def _matches(model: str, patterns: tuple[str, ...]) -> bool:
    name = model.rsplit("/", 1)[-1]
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
