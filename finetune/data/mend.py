"""`--fix`: what can be put right without a guess is, and every change is counted and named.

Done: one form (`messages`), UTF-8 without byte order mark and with plain line ends, white space at
the ends of messages, composed Hangul (NFC, the same text by Unicode's rule), JSON answers compact
and in the schema's order (where a schema is known), exact duplicates. Not done: anything that adds
or chooses content; lines with other errors are left out and named.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from finetune.data import privacy
from finetune.data.answers import Answers
from finetune.data.conversation import Conversation
from finetune.data.facts import digest
from finetune.data.formats import KNOWN, conversation
from finetune.data.malformed import Malformed
from finetune.data.problem import Problem
from finetune.data.read import records
from finetune.data.schemas import AnswerSchema
from finetune.data.write import write_lines
from provider.protocol.serial import dumps


@dataclass
class Mended:
    """What `--fix` did: lines written, changes by name, places of what was left out."""

    written: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        done = ", ".join(f"{what}: {number:,}" for what, number in sorted(self.changes.items()))
        lines = [f"{self.written:,} lines written; {done or 'nothing had to be changed'}"]
        if self.left_out:
            shown = ", ".join(self.left_out[:10]) + (", ..." if len(self.left_out) > 10 else "")
            lines.append(f"left out, since only you can say what is right: {shown}")
        return "\n".join(lines)


def mend(
    paths: Sequence[Path],
    out: Path,
    bad: set[tuple[str, int]],
    schemas: Mapping[str | None, AnswerSchema],
    redact: bool = False,
) -> Mended:
    """Write what is usable of `paths` to `out`. `bad` are the `(source, line)` that have errors.

    Raises `ConfigurationError` where `out` exists or cannot be written.
    """
    mended = Mended()
    mended.written = write_lines(out, _mended(paths, bad, Answers(schemas), redact, mended))
    return mended


def _mended(
    paths: Sequence[Path],
    bad: set[tuple[str, int]],
    answers: Answers,
    redact: bool,
    mended: Mended,
) -> Iterator[dict[str, Any]]:
    seen: set[bytes] = set()
    for path in paths:
        for line, record in records(path, _noting(mended)):
            found = None if (str(path), line) in bad else _read(record, str(path), line)
            if found is None:
                mended.left_out.append(f"{path}:{line}")
                continue
            better = _better(found, answers, redact, mended.changes)
            if (key := digest(better)) in seen:
                mended.changes["exact duplicates dropped"] += 1
                continue
            seen.add(key)
            mended.changes["other formats written as messages"] += "messages" not in record
            further = {key: value for key, value in record.items() if key not in KNOWN}
            yield {**better.record(), **further}
    for name in [name for name, number in mended.changes.items() if not number]:
        del mended.changes[name]


def _noting(mended: Mended) -> Any:
    def note(problem: Problem) -> None:
        if problem.severity == "error":
            mended.left_out.append(f"{problem.source}:{problem.line}")
        elif "byte order mark" in problem.reason:
            mended.changes["byte order marks removed"] += 1
        else:
            mended.changes["empty lines removed"] += 1

    return note


def _read(record: Mapping[str, Any], source: str, line: int) -> Conversation | None:
    try:
        return conversation(record, source, line)
    except Malformed:
        return None


def _better(
    found: Conversation, answers: Answers, redact: bool, changes: Counter[str]
) -> Conversation:
    messages = tuple(_cleaned(message, changes) for message in found.messages)
    schema = answers.schema(found)
    if isinstance(schema, AnswerSchema):
        messages = tuple(_ordered(message, schema, changes) for message in messages)
    better = replace(found, messages=messages)
    if redact and (clean := privacy.without(better)) != better:
        changes["conversations redacted"] += 1
        return clean
    return better


def _cleaned(message: Mapping[str, Any], changes: Counter[str]) -> Mapping[str, Any]:
    text = message["content"]
    if text is None:
        return message
    trimmed = text.strip()
    composed = unicodedata.normalize("NFC", trimmed)
    changes["messages trimmed"] += trimmed != text
    changes["messages composed (NFC)"] += composed != trimmed
    return message if composed == text else {**message, "content": composed}


def _ordered(
    message: Mapping[str, Any], schema: AnswerSchema, changes: Counter[str]
) -> Mapping[str, Any]:
    if message["role"] != "assistant" or not message["content"]:
        return message
    try:
        value = json.loads(message["content"])
        text = dumps(schema.in_order(value))
    except (ValueError, RecursionError):
        return message  # an answer with weight 0; nobody learns it
    if text == message["content"]:
        return message
    disordered = schema.disorder(value) is not None
    changes["answers put in the schema's order"] += disordered
    changes["answers written compactly"] += not disordered
    return {**message, "content": text}
