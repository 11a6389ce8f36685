"""The evaluation in words, as JSON, and as one HTML file with its picture drawn inside."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from html import escape
from typing import Any

from finetune.evaluate.gate import Gate
from finetune.evaluate.run import Evaluation

_COLUMNS = ("name", "answered", "score", "exact", "valid", "refused", "seconds", "usd")


def as_dict(done: Evaluation) -> dict[str, Any]:
    """For machines. `gates` has a verdict for each candidate."""
    return {
        "tasks": len(done.tasks),
        "unfinished": done.unfinished,
        "contestants": [result.figures() for result in done.results],
        "reference": done.reference.contestant.name if done.reference else None,
        "gates": {name: _gate(gate) for name, gate in done.gates.items()},
        "agents": done.by_agent(),
    }


def answers(done: Evaluation) -> Iterator[dict[str, Any]]:
    """One line for each task: what was right, and what each contestant said."""
    for place, task in enumerate(done.tasks):
        said = task.conversation
        line: dict[str, Any] = {
            "source": f"{said.source}:{said.line}",
            "agent_type": said.agent_type,
            "expected": said.answer["content"] or said.answer.get("tool_calls"),
        }
        for result in done.results:
            reply, score = result.replies[place], result.scores[place]
            if reply is not None and score is not None:
                calls = (reply.message or {}).get("tool_calls")
                line[result.contestant.name] = {
                    "said": reply.text or calls or None,
                    "score": score.score,
                    "reason": score.reason,
                    "seconds": reply.seconds,
                }
        yield line


def terminal(done: Evaluation) -> str:
    """Lines for people."""
    rows = [_COLUMNS, *(_row(result.figures()) for result in done.results)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_COLUMNS))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(r, widths, strict=True)).rstrip()
             for r in rows]  # fmt: skip
    agents = done.by_agent()
    if len(agents) > 1:
        lines += ["", *(f"{agent}: {_scores(scores)}" for agent, scores in agents.items())]
    lines += ["", *(f"{name}: {gate}" for name, gate in done.gates.items())]
    if done.unfinished:
        lines.append(f"not finished: {done.unfinished}; the same command goes on")
    return "\n".join(lines).rstrip()


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:.5rem 0}td,th{text-align:left;padding:.25rem .7rem;"
    "border-bottom:1px solid #ddd}.pass{background:#e5f4e8}.fail{background:#fbe4e2}"
    ".undecided{background:#fdf3dc}.verdict{padding:1rem;border-radius:.4rem}"
)


def as_html(done: Evaluation) -> str:
    """One file that needs nothing else."""
    head = "".join(f"<th>{column}" for column in _COLUMNS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}" for cell in _row(result.figures()))
        for result in done.results
    )
    verdicts = "".join(
        f"<p class='verdict {gate.verdict}'>{escape(f'{name}: {gate}')}</p>"
        for name, gate in done.gates.items()
    )
    agents = "".join(
        f"<tr><td>{escape(agent)}<td>{escape(_scores(scores))}"
        for agent, scores in done.by_agent().items()
    )
    why = done.unfinished
    waiting = f"<p class='verdict undecided'>not finished: {escape(why)}</p>" if why else ""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Evaluation</title>"
        f"<style>{_STYLE}</style><h1>Evaluation on {len(done.tasks):,} conversations</h1>"
        f"{verdicts}{waiting}{_intervals(done.gates)}"
        f"<table><tr>{head}{rows}</table><h2>Scores by agent</h2><table>{agents}</table></html>"
    )


def _intervals(gates: dict[str, Gate]) -> str:
    """Ratios with their intervals on one axis, and the gate as a line."""
    shown = {name: gate for name, gate in gates.items() if math.isfinite(gate.high)}
    if not shown:
        return ""
    reach = max(1.2, *(min(gate.high, 2.0) * 1.05 for gate in shown.values()))

    def x(ratio: float) -> float:
        return 220 + 480 * max(0.0, min(ratio, reach)) / reach

    height = 40 + 30 * len(shown)
    lines = "".join(
        f"<text x=10 y={34 + 30 * n} font-size=13>{escape(name[:28])}</text>"
        f"<line x1={x(gate.low):.1f} x2={x(gate.high):.1f} y1={30 + 30 * n} y2={30 + 30 * n} "
        "stroke=#4a7fc1 stroke-width=6 />"
        f"<circle cx={x(gate.ratio):.1f} cy={30 + 30 * n} r=5 fill=#123 />"
        for n, (name, gate) in enumerate(shown.items())
    )
    border = next(iter(shown.values())).gate
    marks = "".join(
        f"<line x1={x(at):.1f} x2={x(at):.1f} y1=10 y2={height - 18} stroke={colour} />"
        f"<text x={x(at):.1f} y={height - 4} font-size=11 text-anchor=middle>{at:.0%}</text>"
        for at, colour in ((border, "#b3261e"), (1.0, "#999"))
    )
    return f"<svg viewBox='0 0 720 {height}' width=720 role=img>{marks}{lines}</svg>"


def _row(figures: dict[str, Any]) -> tuple[str, ...]:
    return tuple(_cell(column, figures[column]) for column in _COLUMNS)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if column in ("score", "exact", "valid"):
        return f"{value:.1%}"
    if column == "seconds":
        return f"{value:.2f}"
    return f"${value:.4f}" if column == "usd" else str(value)


def _scores(scores: dict[str, float | None]) -> str:
    return ", ".join(f"{name} {_cell('score', score)}" for name, score in scores.items())


def _gate(gate: Gate) -> dict[str, Any]:
    stated = {"low": gate.low, "high": gate.high, "ratio": gate.ratio}
    edges = {name: value if math.isfinite(value) else None for name, value in stated.items()}
    return {
        "verdict": gate.verdict,
        "gate": gate.gate,
        "items": gate.items,
        **edges,
        "more_samples": gate.more,
        "sentence": str(gate),
    }


def as_json(done: Evaluation) -> str:
    return json.dumps(as_dict(done), ensure_ascii=False, indent=1)
