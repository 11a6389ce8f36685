"""Conversations held against each other: repeated, contradicting, or on both sides of a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from finetune.data.duplicates import near_duplicates, near_matches
from finetune.data.facts import Facts
from finetune.data.problem import Problem, Severity


def repetitions(rows: Sequence[Facts], near: float) -> Iterator[Problem]:
    """Exact duplicates, one question with several answers, and near duplicates (from `near` on;
    0 leaves them out)."""
    whole: dict[bytes, Facts] = {}
    asked: dict[bytes, Facts] = {}
    distinct: list[Facts] = []
    for row in rows:
        if (first := whole.setdefault(row.digest, row)) is not row:
            yield _found(row, f"repeats {first.place}", "duplicate")
            continue
        distinct.append(row)
        if (first := asked.setdefault(row.asked, row)) is not row:
            why = f"asks the same as {first.place} and answers otherwise"
            yield _found(row, why, "contradiction")
    if near:
        for pair in near_duplicates([row.text for row in distinct], near):
            first, later = distinct[pair.first], distinct[pair.later]
            if first.asked != later.asked:
                why = f"nearly repeats {first.place} (resemblance {pair.resemblance:.2f})"
                yield _found(later, why, "near duplicate")


def leaks(training: Sequence[Facts], validation: Sequence[Facts], near: float) -> Iterator[Problem]:
    """Validation that is trained on: an error where it or its question is the same, a warning
    where it nearly is."""
    asked = {row.asked: row for row in training}
    unseen: list[Facts] = []
    for row in validation:
        if (first := asked.get(row.asked)) is None:
            unseen.append(row)
            continue
        what = "is" if first.digest == row.digest else "asks the same as"
        yield _found(row, f"{what} {first.place}, which is trained on", "leak", "error")
    if near and unseen:
        texts = [row.text for row in unseen]
        for pair in near_matches(texts, [row.text for row in training], near):
            place = training[pair.first].place
            why = f"nearly is {place}, which is trained on (resemblance {pair.resemblance:.2f})"
            yield _found(unseen[pair.later], why, "leak")


def _found(row: Facts, reason: str, kind: str, severity: Severity = "warning") -> Problem:
    return Problem(row.source, row.line, "", reason, severity, kind)
