"""The check's result in words: counts, the first findings of each kind, and a verdict."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from finetune.data.check import ADVISED, Checked
from finetune.data.facts import Facts
from finetune.data.problem import Problem

SHOWN = 5
"""Findings of one kind that a terminal shows, unless all are asked for."""


def figures(checked: Checked) -> dict[str, Any]:
    """The numbers of a report, for machines and for the words below."""
    rows = checked.training
    kinds = Counter((p.kind, p.severity) for p in checked.problems)
    return {
        "conversations": len(rows),
        "validation": len(checked.validation),
        "errors": checked.errors,
        "warnings": len(checked.problems) - checked.errors,
        "problems": [
            {"kind": kind, "severity": severity, "count": number}
            for (kind, severity), number in sorted(kinds.items(), key=lambda i: (i[0][1], -i[1]))
        ],
        "agents": _counted(row.agent_type or "(none)" for row in rows),
        "languages": _counted(row.question_language for row in rows),
        "characters": spread([row.characters for row in rows]),
        "tokens": spread([row.tokens for row in rows if row.tokens is not None]),
        "advised": sum(ADVISED[0] <= row.characters <= ADVISED[1] for row in rows),
    }


def spread(values: Sequence[int]) -> dict[str, int] | None:
    """Smallest, median, 95th percentile, largest and sum; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return {
        "least": ordered[0],
        "median": ordered[len(ordered) // 2],
        "p95": ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)],
        "most": ordered[-1],
        "sum": sum(ordered),
    }


def verdict(checked: Checked) -> str:
    """One sentence."""
    warned = len(checked.problems) - checked.errors
    if checked.errors:
        lines = len(checked.bad_lines)
        return (
            f"NOT READY: {checked.errors:,} errors in {lines:,} places, {warned:,} warnings; "
            f"{len(checked.training):,} conversations were read."
        )
    return f"READY: {len(checked.training):,} conversations, no error, {warned:,} warnings."


def terminal(checked: Checked, everything: bool = False) -> str:
    """Lines for people."""
    numbers = figures(checked)
    lines = list(_findings(checked.problems, everything))
    lines.append(f"conversations  {_first(checked.training)}")
    if checked.validation:
        lines.append(f"validation     {_first(checked.validation)}")
    for name in ("characters", "tokens"):
        if (found := numbers[name]) is not None:
            lines.append(
                f"{name:<14} {found['least']:,} to {found['most']:,}, median {found['median']:,}, "
                f"95 % up to {found['p95']:,}"
            )
    if checked.training:
        share = numbers["advised"] / len(checked.training)
        lines.append(
            f"{'':<14} {share:.0%} have the advised {ADVISED[0]} to {ADVISED[1]:,} characters"
        )
        lines.append(f"agents         {_listed(numbers['agents'])}")
        lines.append(f"languages      {_listed(numbers['languages'])}")
    return "\n".join([*lines, "", verdict(checked)])


def _findings(problems: Sequence[Problem], everything: bool) -> Iterator[str]:
    groups: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        groups[problem.severity, problem.kind].append(problem)
    for (severity, kind), members in sorted(groups.items()):
        yield f"{severity} ({kind}): {len(members):,}"
        shown = members if everything else members[:SHOWN]
        yield from (f"  {problem}" for problem in shown)
        if len(members) > len(shown):
            yield f"  ... and {len(members) - len(shown):,} more; --all shows them"
        yield ""


def _first(rows: Sequence[Facts]) -> str:
    sources = Counter(row.source for row in rows)
    return f"{len(rows):,} in " + (", ".join(f"{s} ({n:,})" for s, n in sources.items()) or "none")


def _counted(values: Iterator[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _listed(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{name} {number:,} ({number / total:.0%})" for name, number in counts.items())
