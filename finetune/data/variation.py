"""What a hosted model is asked, to make new examples out of a seed conversation. Pure.

First for new questions of the same kind, then for the answer to each, under the seed's own
instructions, tools and format: what is recorded is what the hosted model answers in production.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from finetune.data.conversation import Conversation, unweighted

_ASK = """You extend a set of training examples for an assistant. You get one example: what the \
assistant was told, what was said before, and what the user asked last. Write {count} other \
messages that a user could send in its place. Each has another content and another wording, is of \
the same kind, form, language and length, stands on its own, and can be answered as the example \
can. Do not answer them. Invent all names and numbers; no real person's data."""

_ENOUGH = 6000
"""Characters of the seed that are shown for new questions."""


def can_vary(seed: Conversation) -> bool:
    """Whether the last question is a user's; the answer to a tool's result cannot be varied."""
    return len(seed.messages) > 1 and seed.prompt[-1]["role"] == "user"


def questions_request(seed: Conversation, model: str, count: int, round_: int) -> dict[str, Any]:
    """Asks for `count` new questions; each round asks for others."""
    earlier = [
        {"role": message["role"], "content": _cut(message["content"] or "")}
        for message in seed.prompt[:-1]
    ]
    example = {"earlier": earlier, "last": _cut(seed.prompt[-1]["content"])}
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": _ASK.format(count=count)},
            {"role": "user", "content": json.dumps(example, ensure_ascii=False)},
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "questions", "strict": True, "schema": _schema(count)},
        },
        "seed": round_,
        "max_completion_tokens": min(16_000, 200 + 4 * count * len(example["last"]) + 100 * count),
    }


def questions_of(text: str) -> list[str]:
    """The questions in the answer; none where it is not what was asked for."""
    try:
        found = json.loads(text)["messages"]
    except (ValueError, KeyError, TypeError):
        return []
    if not isinstance(found, list):
        return []
    return [item.strip() for item in found if isinstance(item, str) and item.strip()]


def answer_request(
    seed: Conversation,
    question: str,
    model: str,
    longest: int,
    response_format: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Asks the question as an app would, with the seed's own exchange before it as an example."""
    *before, asked = map(unweighted, seed.prompt)
    example = [] if seed.answer.get("tool_calls") else [asked, unweighted(seed.answer)]
    body: dict[str, Any] = {
        "model": model,
        "messages": [*before, *example, {**asked, "content": question}],
        "max_completion_tokens": longest,
    }
    if (form := seed.response_format or response_format) is not None:
        body["response_format"] = form
    if seed.tools:
        body["tools"] = list(seed.tools)
        if seed.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = seed.parallel_tool_calls
    return body


def varied(
    seed: Conversation,
    question: str,
    message: Mapping[str, Any],
    model: str,
    response_format: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The new example's record: the seed's frame, the new question, the model's answer."""
    *before, asked = seed.prompt
    answer = {key: message[key] for key in ("content", "tool_calls") if message.get(key)}
    made = replace(
        seed,
        messages=(
            *before,
            {**asked, "content": question},
            {"role": "assistant", "content": None, **answer},
        ),
        response_format=seed.response_format or response_format,
        model=model,
    )
    return {**made.record(), "expanded_from": f"{seed.source}:{seed.line}"}


def _schema(count: int) -> dict[str, Any]:
    items = {"type": "array", "items": {"type": "string"}, "minItems": count, "maxItems": count}
    return {
        "type": "object",
        "properties": {"messages": items},
        "required": ["messages"],
        "additionalProperties": False,
    }


def _cut(text: str) -> str:
    return text if len(text) <= _ENOUGH else text[:_ENOUGH] + " ..."
