"""What one conversation is, in numbers: what duplicates, lengths and balance are computed from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune.data.conversation import Conversation
from finetune.data.duplicates import normal
from finetune.data.language import language


@dataclass(frozen=True, slots=True)
class Facts:
    """`digest` is of the whole conversation, `asked` of what comes before the last answer; `text`
    is what is compared for near duplicates, without the instructions that all share.
    `characters` counts what was asked and answered; `tokens` is None without a tokenizer."""

    source: str
    line: int
    agent_type: str | None
    digest: bytes
    asked: bytes
    text: str
    characters: int
    question_language: str
    answer_language: str
    tokens: int | None = None

    @property
    def place(self) -> str:
        return f"{self.source}:{self.line}"


def facts(conversation: Conversation, tokens: int | None = None) -> Facts:
    """The facts of a conversation; `tokens` is its length, where a tokenizer counted it."""
    spoken = [m for m in conversation.messages if m["role"] not in ("system", "developer")]
    asked = [m["content"] for m in spoken if m["role"] == "user"]
    texts = [said(message) for message in spoken]
    return Facts(
        source=conversation.source,
        line=conversation.line,
        agent_type=conversation.agent_type,
        digest=digest(conversation),
        asked=_hashed([conversation.prompt, conversation.tools]),
        text=normal("\n".join(texts)),
        characters=sum(map(len, texts)),
        question_language=language(asked[-1]) if asked else "other",
        answer_language=language(said(conversation.answer)),
        tokens=tokens,
    )


def digest(conversation: Conversation) -> bytes:
    """Equal for conversations that a model would learn the same from."""
    return _hashed([conversation.messages, conversation.tools, conversation.response_format])


def said(message: Mapping[str, Any]) -> str:
    """All text of a message, its calls' arguments included."""
    calls = (call["function"]["arguments"] for call in message.get("tool_calls") or ())
    return "\n".join(filter(None, [message["content"], *calls]))


def _hashed(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()
