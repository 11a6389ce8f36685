"""What a decision needs from the shadow journal: agreement, validity, latency, cost, worst."""

from __future__ import annotations

import html
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

_SIDES = ("served", "shadow")


@dataclass(frozen=True)
class Report:
    """Figures over all pairs that both answered; `agreement` maps a field to its share of equals.

    Latencies are seconds, costs US dollars a day at the traffic seen (None: price unknown).
    """

    pairs: int
    failures: dict[str, int]
    models: dict[str, str]
    agreement: dict[str, tuple[float, int]]
    valid: dict[str, float | None]
    latency: dict[str, list[float]]
    cost_per_day: dict[str, float | None]
    worst: list[dict[str, Any]]


def read(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The journal's lines; a line that a crash tore is left out."""
    entries = []
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entries.append(json.loads(line))
            except ValueError:
                continue
    return entries


def report(entries: Sequence[dict[str, Any]], worst: int = 5) -> Report:
    failures: dict[str, int] = defaultdict(int)
    for entry in entries:
        if entry["failure"]:
            failures[entry["failure"].split(":")[0]] += 1
    both = [entry for entry in entries if not entry["failure"]]
    return Report(
        pairs=len(both),
        failures=dict(failures),
        models={side: _commonest(entry[side]["model"] for entry in both) for side in _SIDES},
        agreement=_agreement(both),
        valid={side: _share(entry[side]["valid"] for entry in both) for side in _SIDES},
        latency={side: sorted(entry[side]["seconds"] for entry in both) for side in _SIDES},
        cost_per_day={side: _per_day(both, side) for side in _SIDES},
        worst=sorted(both, key=_agreed)[:worst],
    )


def text(found: Report) -> str:
    """The report for a terminal."""
    lines = [f"{found.pairs} pairs; shadow failures: {found.failures or 'none'}"]
    lines.append(f"{'':24}{'served':>14}{'shadow':>14}")
    lines.append(f"{'model':24}{found.models['served']:>14}{found.models['shadow']:>14}")
    rows = {
        "valid under the schema": [_percent(found.valid[side]) for side in _SIDES],
        "latency p50 (s)": [_quantile(found.latency[side], 0.5) for side in _SIDES],
        "latency p95 (s)": [_quantile(found.latency[side], 0.95) for side in _SIDES],
        "cost per day (USD)": [_dollars(found.cost_per_day[side]) for side in _SIDES],
    }
    lines += [f"{name:24}{left:>14}{right:>14}" for name, (left, right) in rows.items()]
    lines.append("agreement per field (share of pairs, of how many)")
    for name, (share, count) in sorted(found.agreement.items(), key=lambda item: item[1]):
        lines.append(f"  {name:40} {share:6.1%} of {count}")
    return "\n".join(lines)


def page(found: Report) -> str:
    """The report as one self-contained HTML page, plots included."""
    bars = "".join(
        _bar(name, share, count)
        for name, (share, count) in sorted(found.agreement.items(), key=lambda item: item[1])
    )
    worst = "".join(_example(entry) for entry in found.worst)
    return (
        "<!doctype html><meta charset=utf-8><title>Shadow report</title>"
        "<style>body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;"
        "padding:0 1rem;color:#222}pre{background:#f6f6f6;padding:.7rem;overflow:auto;"
        "white-space:pre-wrap}svg text{font:12px system-ui,sans-serif}h2{margin-top:2rem}</style>"
        f"<h1>Shadow report</h1><pre>{html.escape(text(found))}</pre>"
        f"<h2>Agreement per field</h2>{bars or '<p>No JSON answers to compare.</p>'}"
        f"<h2>Latency</h2>{_curves(found.latency)}<h2>Worst examples</h2>{worst}"
    )


def _agreement(both: Sequence[dict[str, Any]]) -> dict[str, tuple[float, int]]:
    seen: dict[str, list[bool]] = defaultdict(list)
    for entry in both:
        for name, same in entry["agreement"].items():
            seen[name].append(same)
    return {name: (sum(marks) / len(marks), len(marks)) for name, marks in seen.items()}


def _agreed(entry: dict[str, Any]) -> float:
    marks = list(entry["agreement"].values())
    return sum(marks) / len(marks) if marks else 1.0


def _share(marks: Iterable[bool | None]) -> float | None:
    known = [mark for mark in marks if mark is not None]
    return sum(known) / len(known) if known else None


def _per_day(both: Sequence[dict[str, Any]], side: str) -> float | None:
    costs = [entry[side]["cost_usd"] for entry in both]
    if not costs or any(each is None for each in costs):
        return None
    times = [datetime.fromisoformat(entry["at"]) for entry in both]
    days = max((max(times) - min(times)).total_seconds() / 86_400, 1 / 24)
    return float(sum(costs) / days)


def _commonest(names: Iterable[str | None]) -> str:
    known = [name for name in names if name]
    return statistics.mode(known) if known else "unknown"


def _percent(share: float | None) -> str:
    return "no schema" if share is None else f"{share:.1%}"


def _dollars(amount: float | None) -> str:
    return "unknown" if amount is None else f"{amount:.4f}"


def _quantile(ordered: Sequence[float], share: float) -> str:
    if not ordered:
        return "-"
    return f"{ordered[min(len(ordered) - 1, int(share * len(ordered)))]:.3f}"


def _bar(name: str, share: float, count: int) -> str:
    return (
        f'<svg width="100%" height="22" role="img" aria-label="{html.escape(name)}">'
        f'<text x="0" y="15">{html.escape(name)}</text>'
        f'<rect x="45%" y="4" width="40%" height="14" fill="#eee"/>'
        f'<rect x="45%" y="4" width="{share * 40:.2f}%" height="14" fill="#2a6fbb"/>'
        f'<text x="87%" y="15">{share:.1%} of {count}</text></svg>'
    )


def _curves(latency: dict[str, list[float]]) -> str:
    """Cumulative distributions: share of the answers (up) within seconds (right)."""
    longest = max((values[-1] for values in latency.values() if values), default=1.0) or 1.0
    drawn = ""
    for side, colour in zip(_SIDES, ("#2a6fbb", "#c8502d"), strict=True):
        values = latency[side]
        points = " ".join(
            f"{40 + 540 * value / longest:.1f},{190 - 170 * (rank + 1) / len(values):.1f}"
            for rank, value in enumerate(values)
        )
        y = 30 if side == "served" else 48
        drawn += (
            f'<polyline points="40,190 {points}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="50" y="{y}" fill="{colour}">{side}</text>'
        )
    return (
        '<svg viewBox="0 0 600 220" width="100%"><path d="M40 10V190H580" fill="none" '
        f'stroke="#888"/>{drawn}<text x="40" y="210">0 s</text>'
        f'<text x="580" y="210" text-anchor="end">{longest:.2f} s</text></svg>'
    )


def _example(entry: dict[str, Any]) -> str:
    sides = "".join(
        f"<h4>{side}: {html.escape(str(entry[side]['model']))}</h4>"
        f"<pre>{html.escape(entry[side]['text'])}</pre>"
        for side in _SIDES
    )
    return f"<h3>{_agreed(entry):.0%} agreement, {html.escape(entry['at'])}</h3>{sides}"
