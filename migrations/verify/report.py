"""The report: for a terminal, as JSON, and as one HTML file with its plots drawn inside."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from migrations.verify.checks import Check
from migrations.verify.ranking import Comparison


@dataclass(frozen=True)
class Report:
    """Everything that was found about one space."""

    space: str
    checks: Sequence[Check]
    recall: Sequence[float] = ()
    overlap: Sequence[float] = ()
    comparisons: Sequence[Comparison] = ()
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def reasons(self) -> list[str]:
        """Why it is not safe to switch; empty when it is."""
        bad = [f"{c.name}: {c.detail}" for c in self.checks if c.blocking and not c.ok]
        return bad + [c.sentence() for c in self.comparisons if c.worse]

    @property
    def safe(self) -> bool:
        return not self.reasons

    @property
    def verdict(self) -> str:
        if self.safe:
            return f"SAFE TO SWITCH to {self.space}"
        return f"NOT SAFE to switch to {self.space}: " + "; ".join(self.reasons)


def terminal(report: Report) -> str:
    """Lines for people."""
    width = max(len(check.name) for check in report.checks)
    lines = [f"space {report.space}"]
    for check in report.checks:
        mark = "ok  " if check.ok else "FAIL" if check.blocking else "note"
        lines.append(f"  {mark}  {check.name:<{width}}  {check.detail}")
    lines += [f"        {comparison.sentence()}" for comparison in report.comparisons]
    lines += [f"        {name}: {value}" for name, value in report.facts.items()]
    return "\n".join([*lines, "", report.verdict])


def as_json(report: Report) -> str:
    """For machines; `safe` and `reasons` are the verdict."""
    body = {"safe": report.safe, "reasons": report.reasons, **asdict(report)}
    return json.dumps(body, ensure_ascii=False, indent=2)


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;"
    "border-bottom:1px solid #ddd}.ok{color:#176b2c}.fail{color:#a40000;font-weight:600}"
    ".note{color:#8a5a00}.verdict{padding:1rem;border-radius:.4rem;background:#eef}"
)


def as_html(report: Report) -> str:
    """One file that needs nothing else."""
    rows = "".join(
        f"<tr><td class={_mark(check)}>{_mark(check)}</td><td>{html.escape(check.name)}</td>"
        f"<td>{html.escape(check.detail)}</td></tr>"
        for check in report.checks
    )
    plots = _histogram("Recall@10 of the index, per query", report.recall) + _histogram(
        "Overlap@10 with the other space, per query", report.overlap
    )
    quality = "".join(f"<p>{html.escape(c.sentence())}</p>" for c in report.comparisons)
    intervals = _intervals(report.comparisons)
    return (
        f"<!doctype html><meta charset=utf-8><title>{html.escape(report.space)}</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(report.space)}</h1>"
        f"<p class=verdict>{html.escape(report.verdict)}</p>"
        f"<table><tr><th></th><th>check</th><th>found</th></tr>{rows}</table>"
        f"{plots}{quality}{intervals}"
    )


def _mark(check: Check) -> str:
    return "ok" if check.ok else "fail" if check.blocking else "note"


def _histogram(title: str, values: Sequence[float], bins: int = 10) -> str:
    """Shares between 0 and 1 as bars."""
    if not values:
        return ""
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int(value * bins))] += 1
    highest = max(counts)
    bars = "".join(
        f"<rect x={40 + 50 * n} y={110 - 90 * count / highest:.1f} width=44 "
        f"height={90 * count / highest:.1f} fill=#4a7fc1><title>{count}</title></rect>"
        f"<text x={62 + 50 * n} y=126 font-size=11 text-anchor=middle>{(n + 1) / bins:.1f}</text>"
        for n, count in enumerate(counts)
    )
    heading = f"<h2>{html.escape(title)} ({len(values)} queries)</h2>"
    return f"{heading}<svg viewBox='0 0 560 132' width=560 role=img>{bars}</svg>"


def _intervals(comparisons: Sequence[Comparison]) -> str:
    """Differences with their intervals on one axis; the line in the middle is no difference."""
    if not comparisons:
        return ""
    reach = max(0.01, *(abs(edge) for c in comparisons for edge in (c.low, c.high)))

    def x(value: float) -> float:
        return 330 + 200 * value / reach

    lines = "".join(
        f"<text x=10 y={34 + 30 * n} font-size=13>{html.escape(c.metric)}</text>"
        f"<line x1={x(c.low):.1f} x2={x(c.high):.1f} y1={30 + 30 * n} y2={30 + 30 * n} "
        f"stroke=#4a7fc1 stroke-width=6 />"
        f"<circle cx={x(c.new - c.old):.1f} cy={30 + 30 * n} r=5 fill=#123 />"
        for n, c in enumerate(comparisons)
    )
    height = 40 + 30 * len(comparisons)
    axis = f"<line x1=330 x2=330 y1=10 y2={height - 10} stroke=#999 />"
    heading = "<h2>New minus old, 95 % interval</h2>"
    return f"{heading}<svg viewBox='0 0 560 {height}' width=560 role=img>{axis}{lines}</svg>"
