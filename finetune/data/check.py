"""Everything that is checked about training data, in one pass over the lines and one over all."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finetune.data import privacy
from finetune.data.answers import Answers
from finetune.data.compare import leaks, repetitions
from finetune.data.conversation import Conversation
from finetune.data.facts import Facts, facts
from finetune.data.lengths import Count
from finetune.data.problem import Problem, Severity
from finetune.data.read import read_conversations
from finetune.data.schemas import AnswerSchema
from provider.errors import ConfigurationError
from provider.record import forbidden

ADVISED = (100, 1000)
"""Characters of a good example; shorter ones teach little, longer ones cost much."""


@dataclass(frozen=True)
class Limits:
    """What data are held to. `near` is the resemblance from which texts nearly repeat (0: off)."""

    schemas: Mapping[str | None, AnswerSchema] = field(default_factory=dict)
    count: Count | None = None
    max_length: int = 2048
    near: float = 0.85


@dataclass
class Checked:
    """What was found: the facts of usable conversations, and the problems in order of lines."""

    training: list[Facts] = field(default_factory=list)
    validation: list[Facts] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def errors(self) -> int:
        return sum(problem.severity == "error" for problem in self.problems)

    @property
    def bad_lines(self) -> set[tuple[str, int]]:
        """`(source, line)` of what has an error."""
        return {(p.source, p.line) for p in self.problems if p.severity == "error"}


def check(paths: Sequence[Path], limits: Limits, validation: Sequence[Path] = ()) -> Checked:
    """All problems of the files at `paths`, and of those in `validation` beside them."""
    checked = Checked()
    answers = Answers(limits.schemas)
    for group, rows in ((paths, checked.training), (validation, checked.validation)):
        for path in group:
            rows += _lines(path, limits, answers, checked.problems)
    checked.problems += repetitions(checked.training, limits.near)
    checked.problems += leaks(checked.training, checked.validation, limits.near)
    checked.problems += _balance(checked.training, str(paths[0]) if len(paths) == 1 else "all data")
    order = {str(path): place for place, path in enumerate((*paths, *validation))}
    checked.problems.sort(key=lambda p: (order.get(p.source, len(order)), p.line))
    return checked


def _lines(
    path: Path, limits: Limits, answers: Answers, problems: list[Problem]
) -> Iterator[Facts]:
    for conversation in read_conversations(path, problems.append):
        problems += answers.problems(conversation)
        problems += privacy.found(conversation)
        problems += _licence(conversation)
        problems += _form(conversation)
        problems += _order(conversation)
        tokens = None
        if limits.count is not None:
            try:
                tokens = limits.count(conversation)
            except ConfigurationError as error:
                problems.append(_problem(conversation, str(error), "template", "error"))
        row = facts(conversation, tokens)
        problems += _size(row, limits)
        yield row


def _size(row: Facts, limits: Limits) -> Iterator[Problem]:
    if row.tokens is not None and row.tokens > limits.max_length:
        why = f"has {row.tokens:,} tokens; expected at most {limits.max_length:,}"
        yield Problem(row.source, row.line, "", why, "error", "tokens")
    low, high = ADVISED
    if not low <= row.characters <= high:
        why = f"has {row.characters:,} characters; {low} to {high:,} are advised"
        yield Problem(row.source, row.line, "", why, "warning", "length")
    asked, answered = row.question_language, row.answer_language
    if asked != answered and "other" not in (asked, answered):
        why = f"is asked in {asked} and answered in {answered}"
        yield Problem(row.source, row.line, "", why, "warning", "language")


def _licence(conversation: Conversation) -> Iterator[Problem]:
    if conversation.model is not None and (why := forbidden(conversation.model)):
        reason = f"was written by {conversation.model}, whose licence forbids it ({why})"
        yield _problem(conversation, reason, "licence", "error", "model")


def _order(conversation: Conversation) -> Iterator[Problem]:
    """A system message that is not at the beginning: allowed, and seldom meant."""
    others = False
    for index, message in enumerate(conversation.messages):
        if message["role"] not in ("system", "developer"):
            others = True
        elif others:
            why = "a system message after the conversation has begun; most models know it first"
            place = f"messages[{index}]"
            yield _problem(conversation, why, "system message", "warning", place)


def _form(conversation: Conversation) -> Iterator[Problem]:
    for index, message in enumerate(conversation.messages):
        text = message["content"] or ""
        if text != text.strip():
            why = "has white space at its ends"
        elif not unicodedata.is_normalized("NFC", text):
            why = "has decomposed characters (Hangul in single letters); they are other tokens"
        elif "\ufffd" in text:
            why = "has U+FFFD, the mark of a character that was lost"
        else:
            continue
        yield _problem(conversation, why, "text", "warning", f"messages[{index}].content")


def _balance(rows: Sequence[Facts], source: str) -> Iterator[Problem]:
    """Agents that are much rarer than the most frequent one, and rows without one among others."""
    agents = Counter(row.agent_type for row in rows)
    if set(agents) <= {None}:
        return
    if unnamed := agents.pop(None, 0):
        why = f"{unnamed:,} of {len(rows):,} conversations have none"
        yield Problem(source, 0, "agent_type", why, "warning", "balance")
    most = max(agents.values())
    for agent, number in sorted(agents.items(), key=lambda item: item[1]):
        if number * 10 < most:
            why = f"{agent!r} has {number:,} conversations, the most frequent one {most:,}"
            yield Problem(source, 0, "agent_type", why, "warning", "balance")


def _problem(
    conversation: Conversation, reason: str, kind: str, severity: Severity, field: str = ""
) -> Problem:
    return Problem(conversation.source, conversation.line, field, reason, severity, kind)
