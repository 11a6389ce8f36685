"""Learning curves of a training: a PNG, and one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.picture import embedded, page, table, write_page
from finetune.train.journal import Journal

PNG, HTML = "curves.png", "curves.html"


def write_curves(run: Path, title: str) -> Path | None:
    """Draw the journal of `run`; returns the page, None if there is nothing to draw."""
    journal = Journal(run, write=False)
    if not journal.losses():
        return None
    _draw(journal, run / PNG, title)
    image = embedded((run / PNG).read_bytes(), "learning curves")
    return write_page(run / HTML, page(title, image, _table(journal)))


def _draw(journal: Journal, path: Path, title: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    loss, other = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    loss.plot(*_columns(journal.losses()), color="#9ab", linewidth=0.8, label="training, each step")
    loss.plot(*_columns(smoothed(journal.losses())), color="#246", label="training, smoothed")
    if journal.evaluations():
        loss.plot(*_columns(journal.evaluations()), "o-", color="#c40", label="evaluation")
    best = journal.best()
    if best:
        loss.axvline(best[0], color="#c40", linestyle=":", label=f"best, step {best[0]}")
    loss.set(ylabel="loss per learnt token", title=title)
    loss.legend()
    rates = [(e["step"], e["learning_rate"]) for e in journal.entries if "learning_rate" in e]
    other.plot(*_columns(rates), color="#246")
    other.set(xlabel="optimiser step", ylabel="learning rate")
    for axes in (loss, other):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def smoothed(points: Sequence[tuple[int, float]], share: float = 0.2) -> list[tuple[int, float]]:
    """An exponential mean, without the pull towards zero at its beginning."""
    total = weight = 0.0
    curve = []
    for step, value in points:
        total, weight = total * (1 - share) + value * share, weight * (1 - share) + share
        curve.append((step, total / weight))
    return curve


def _columns(points: Sequence[tuple[int, Any]]) -> tuple[list[int], list[Any]]:
    return [step for step, _ in points], [value for _, value in points]


def _table(journal: Journal) -> str:
    rows = [[str(step), f"{loss:.4f}"] for step, loss in journal.evaluations()]
    return table(["step", "evaluation loss"], rows) if rows else ""
