"""How many tokens a conversation has, counted exactly as training lays it out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from finetune.data.conversation import Conversation

Count = Callable[[Conversation], int]

_NO_LIMIT = 2**31


def counter(folder: Path) -> Count:
    """A function from a conversation to its tokens under the tokenizer in `folder`.

    Raises `ConfigurationError` for a folder without a usable tokenizer; the function raises it for
    a conversation that the chat template refuses.
    """
    from finetune.train.examples import encode
    from provider.engine.chat import ChatTokenizer

    tokenizer = ChatTokenizer.load(folder)

    def count(conversation: Conversation) -> int:
        rows = encode([conversation], tokenizer, max_length=_NO_LIMIT).rows
        return max(map(len, rows))

    return count
