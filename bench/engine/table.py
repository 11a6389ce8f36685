"""The benchmark's table: medians by case and engine, and ratios to the fastest peer."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Rows = dict[tuple[str, str], list[dict[str, Any]]]
"""Results by case and engine, one for each round."""

_HEAD = (
    "| case | engine | CPU ms/token | after the first token | wall ms/token | tokens "
    "| per forward pass | of the fastest peer |\n|---|---|---|---|---|---|---|---|"
)


def table(rows: Rows, failures: Mapping[str, str]) -> str:
    """Markdown. The last column is the fastest peer's time over ours: whole request, and after
    the first token."""
    lines = [_HEAD]
    for label, engine in sorted(rows):
        runs = rows[label, engine]
        forward = [run["per_forward"] for run in runs if "per_forward" in run]
        cells = [
            label,
            engine,
            f"{total(runs):.2f}",
            f"{decode(runs):.2f}",
            f"{_median(1e3 * run['wall'] / run['tokens'] for run in runs):.2f}",
            f"{_median(run['tokens'] for run in runs):.0f}",
            f"{_median(forward):.2f}" if forward else "",
            _ratios(rows, label) if engine == "ours" else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"\n{engine} is missing: it {why}" for engine, why in failures.items()]
    return "\n".join(lines)


def total(runs: Sequence[Mapping[str, Any]]) -> float:
    """CPU milliseconds of whole requests for each generated token."""
    return _median(1e3 * run["cpu"] / run["tokens"] for run in runs)


def decode(runs: Sequence[Mapping[str, Any]]) -> float:
    """CPU milliseconds for each token that came after every answer had its first."""
    return _median(
        1e3 * (run["cpu"] - run["cpu_first"]) / max(1, run["tokens"] - run["tokens_first"])
        for run in runs
    )


def _ratios(rows: Rows, label: str) -> str:
    ours = rows[label, "ours"]
    peers = [runs for (case, name), runs in rows.items() if case == label and "ours" not in name]
    if not peers:
        return ""
    whole = min(map(total, peers)) / total(ours)
    later = min(map(decode, peers)) / decode(ours)
    return f"{whole:.2f} x, {later:.2f} x"


def _median(values: Any) -> float:
    return float(statistics.median(values))
