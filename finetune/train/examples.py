"""Conversations as token ids with the assistant's tokens marked: what a model is trained on.

Messages become text exactly as the server makes them (`provider.protocol.conversation`: tools in
the system message, calls as the grammar writes them), and text becomes ids as the server's chat
tokenizer makes them, so that what is learnt is what is asked for later.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from finetune.data.conversation import Conversation
from provider.engine.chat import ChatTokenizer
from provider.errors import ConfigurationError, InvalidRequest
from provider.protocol.chat import parse
from provider.protocol.conversation import conversation as as_text
from provider.protocol.serial import dumps

TooLong = Literal["refuse", "drop", "truncate"]
IGNORED = -100
"""Label of a token that is not learnt."""


@dataclass(frozen=True, slots=True)
class Example:
    """`ids` of one sequence and `learnt`, a 1 for each token that an assistant wrote."""

    ids: array[int]
    learnt: array[int]
    where: str

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labels(self) -> list[int]:
        """The id where it is learnt, -100 elsewhere."""
        return [
            token if mark else IGNORED for token, mark in zip(self.ids, self.learnt, strict=True)
        ]

    @property
    def key(self) -> bytes:
        """A digest of ids and marks; equal examples have equal ones."""
        return hashlib.sha256(self.ids.tobytes() + self.learnt.tobytes()).digest()


@dataclass(frozen=True)
class Examples:
    """All sequences of a data set, and what was left out or cut."""

    rows: tuple[Example, ...]
    dropped: int = 0
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def tokens(self) -> int:
        return sum(map(len, self.rows))

    @property
    def learnt(self) -> int:
        """Tokens that count in the loss."""
        return sum(sum(row.learnt) for row in self.rows)

    @property
    def sha256(self) -> str:
        """Of ids and marks in order: the same data under the same tokenizer, wherever it lies."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(row.key)
        return digest.hexdigest()


def encode(
    conversations: Iterable[Conversation],
    tokenizer: ChatTokenizer,
    *,
    max_length: int,
    too_long: TooLong = "refuse",
    compact: bool = True,
) -> Examples:
    """Every conversation as one example (or several, see `ChatTokenizer.encode_answered`).

    `compact` brings JSON answers into the one form of `provider.protocol.serial`. Raises
    `ConfigurationError` naming file and line for a conversation that the template or the limit
    refuses, and for data in which nothing is left to learn.
    """
    rows: list[Example] = []
    long: list[Example] = []
    for conversation in conversations:
        for row in _examples(conversation, tokenizer, compact):
            (long if len(row) > max_length else rows).append(row)
    if long and too_long == "refuse":
        raise ConfigurationError(_too_long(long, max_length))
    kept = [cut for row in long if (cut := _cut(row, max_length)) is not None]
    if too_long == "drop":
        kept = []
    if not rows and not kept:
        raise ConfigurationError(
            "The data have no assistant's message within max_length; expected at least one "
            "conversation that ends in an answer."
        )
    return Examples((*rows, *kept), dropped=len(long) - len(kept), truncated=len(kept))


def held_out(examples: Examples, share: float) -> tuple[Examples, Examples]:
    """(training, evaluation): `share` of the examples chosen by their digests, so that the choice
    follows the data alone and equal examples stay on one side."""
    keys = sorted({row.key for row in examples.rows})
    count = min(max(1, round(len(keys) * share)), len(keys) - 1) if share else 0
    chosen = set(keys[:count])
    aside = tuple(row for row in examples.rows if row.key in chosen)
    rest = tuple(row for row in examples.rows if row.key not in chosen)
    return Examples(rest, examples.dropped, examples.truncated), Examples(aside)


def _examples(
    conversation: Conversation, tokenizer: ChatTokenizer, compact: bool
) -> Iterator[Example]:
    where = f"{conversation.source}:{conversation.line}"
    body = {"model": "base", **conversation.request()}
    if compact:
        body["messages"] = [_compacted(message) for message in body["messages"]]
    learn = [
        message.get("weight") != 0
        for message in conversation.messages
        if message["role"] == "assistant"
    ]
    try:
        sequences = tokenizer.encode_answered(as_text(parse(body)), learn)
    except InvalidRequest as error:
        raise ConfigurationError(f"{where}: {error}") from error
    for ids, learnt in sequences:
        yield Example(array("i", ids), array("b", learnt), where)


def _compacted(message: Mapping[str, Any]) -> Mapping[str, Any]:
    content = message.get("content")
    if message["role"] != "assistant" or not isinstance(content, str):
        return message
    if not content.lstrip().startswith(("{", "[")):
        return message
    try:
        return {**message, "content": dumps(json.loads(content))}
    except (ValueError, RecursionError):  # text that only begins like JSON
        return message


def _cut(row: Example, length: int) -> Example | None:
    """The beginning of a row, None if nothing in it is learnt."""
    cut = Example(row.ids[:length], row.learnt[:length], row.where)
    return cut if any(cut.learnt) else None


def _too_long(long: Sequence[Example], limit: int) -> str:
    worst = sorted(long, key=len, reverse=True)
    named = ", ".join(f"{row.where} ({len(row):,} tokens)" for row in worst[:3])
    more = f" and {len(long) - 3} more" if len(long) > 3 else ""
    return (
        f"{len(long)} conversations are longer than max_length={limit}: {named}{more}; raise "
        f"max_length to {len(worst[0])}, or set too_long to drop or truncate."
    )
