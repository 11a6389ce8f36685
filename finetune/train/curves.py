"""Learning curves of a training: a PNG, and one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.train.journal import Journal

PNG, HTML = "curves.png", "curves.html"


def write_curves(run: Path, title: str) -> Path | None:
    """Draw the journal of `run`; returns the page, None if there is nothing to draw."""
    journal = Journal(run, write=False)
    if not journal.losses():
        return None
    _draw(journal, run / PNG, title)
    picture = base64.b64encode((run / PNG).read_bytes()).decode()
    page = run / HTML
    page.write_text(
        "<!doctype html><meta charset='utf-8'>"
        f"<title>{html.escape(title)}</title>"
        "<style>body{font:16px system-ui;margin:2rem auto;max-width:62rem;padding:0 1rem}"
        "img{width:100%}table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right}"
        "</style>"
        f"<h1>{html.escape(title)}</h1><img alt='learning curves' "
        f"src='data:image/png;base64,{picture}'>{_table(journal)}",
        encoding="utf-8",
    )
    return page


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
    rows = "".join(
        f"<tr><td>{step}</td><td>{loss:.4f}</td></tr>" for step, loss in journal.evaluations()
    )
    if not rows:
        return ""
    return f"<table><tr><th>step</th><th>evaluation loss</th></tr>{rows}</table>"
