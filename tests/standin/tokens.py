"""A deterministic tokenizer of the stand-in's own: words, runs of space, single other characters.

It is not tiktoken (whose tables come over the network); counts are plausible and stable, and the
pieces joined give the text back.
"""

from __future__ import annotations

import re
from typing import Any

_PIECE = re.compile(r" ?[A-Za-z]{1,8}| ?[0-9]{1,3}| ?[가-힣]{1,2}|\s+|.", re.DOTALL)


def pieces(text: str) -> list[str]:
    return _PIECE.findall(text)


def count(text: str) -> int:
    return len(pieces(text))


def message_text(message: dict[str, Any]) -> str:
    """All text of a message: its content, or the text parts of it."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text") or part.get("refusal") or "" for part in content)
    return content or ""


def count_prompt(messages: list[dict[str, Any]], *more: Any) -> int:
    """Tokens of a chat prompt: three for each message's frame, three to prime the answer."""
    total = 3
    for message in messages:
        total += 3 + count(message_text(message))
        total += sum(count(str(call)) for call in message.get("tool_calls") or ())
    return total + sum(count(str(extra)) for extra in more if extra)
