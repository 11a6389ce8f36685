"""Personal data in a conversation: found by the patterns that recordings are cleaned with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from finetune.data.conversation import Conversation
from finetune.data.problem import Problem
from provider.redact import EMAIL, PHONE, RESIDENT, personal_data, redacted

_PATTERNS = {
    "an e-mail address": EMAIL,
    "a phone number": PHONE,
    "a resident registration number": RESIDENT,
}


def found(conversation: Conversation) -> Iterator[Problem]:
    """A warning for each message with personal data; what was found is not repeated."""
    for index, message in enumerate(conversation.messages):
        calls = (call["function"]["arguments"] for call in message.get("tool_calls") or ())
        text = "\n".join([message["content"] or "", *calls])
        kinds = [kind for kind, pattern in _PATTERNS.items() if pattern.search(text)]
        if kinds:
            yield Problem(
                conversation.source,
                conversation.line,
                f"messages[{index}]",
                f"has {' and '.join(kinds)}; --redact replaces it",
                "warning",
                "personal data",
            )


def without(conversation: Conversation) -> Conversation:
    """The conversation with `[EMAIL]`, `[PHONE]` and `[RRN]` in place of personal data."""
    return replace(
        conversation, messages=tuple(redacted(list(conversation.messages), personal_data))
    )
