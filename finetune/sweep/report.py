"""A sweep's table and plots, from the journals of its runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finetune.picture import embedded, page, write_page
from finetune.picture import table as in_html
from finetune.sweep.config import Point, Sweep
from finetune.train.journal import Journal
from finetune.train.run import finished_adapter, summary

Row = dict[str, Any]


def rows(sweep: Sweep) -> list[Row]:
    """One for each point: what sets it apart, its state and figures; the best first."""
    listed = [_row(point) for point in sweep.points]
    return sorted(listed, key=lambda row: (row["score"] is None, row["score"] or 0.0))


def table(listed: list[Row]) -> str:
    """For a terminal and for Markdown."""
    columns = [name for name in listed[0] if name not in ("score", "run")]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in columns) + " |" for row in listed]
    return "\n".join(lines)


def write(sweep: Sweep) -> Path:
    """`sweep.json`, `sweep.png` and `sweep.html` in the sweep's folder; returns the page."""
    listed = rows(sweep)
    (sweep.output / "sweep.json").write_text(
        json.dumps(listed, ensure_ascii=False, indent=2), encoding="utf-8"
    )
    picture = sweep.output / "sweep.png"
    _draw(sweep, listed, picture)
    image = embedded(picture.read_bytes(), "results and curves")
    return write_page(sweep.output / "sweep.html", page(str(sweep.output), image, _html(listed)))


def _row(point: Point) -> Row:
    run = point.config.output
    journal = Journal(run, write=False)
    figures = summary(journal)
    done = finished_adapter(run) is not None
    score = figures.get("eval_loss", figures.get("loss"))
    return {
        **{name: str(value) for name, value in point.values.items()},
        "state": "finished" if done else f"step {figures['steps']}" if figures else "not started",
        "loss": figures.get("loss"),
        "eval loss": figures.get("eval_loss"),
        "best step": figures.get("best_step"),
        "score": score if done else None,
        "run": str(run),
    }


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _html(listed: list[Row]) -> str:
    columns = [name for name in listed[0] if name != "score"]
    return in_html(columns, [[_cell(row[name]) for name in columns] for row in listed])


def _draw(sweep: Sweep, listed: list[Row], path: Path) -> None:
    """The result by each varied key, and every run's evaluation curve."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    keys = sweep.varied
    figure = Figure(figsize=(4.5 * (len(keys) + 1), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    *panels, curves = figure.subplots(1, len(keys) + 1, squeeze=False)[0]
    for axes, key in zip(panels, keys, strict=True):
        done = [row for row in listed if row["score"] is not None]
        order = list(dict.fromkeys(str(point.values[key]) for point in sweep.points))
        places = [order.index(row[key]) for row in done]
        axes.plot(places, [row["score"] for row in done], "o", color="#246")
        axes.set_xticks(range(len(order)), order, rotation=20)
        axes.set(xlabel=key, ylabel="evaluation loss (best)")
    for point in sweep.points:
        journal = Journal(point.config.output, write=False)
        points = journal.evaluations() or journal.losses()
        curves.plot([s for s, _ in points], [v for _, v in points], label=point.name, linewidth=1)
    curves.set(xlabel="optimiser step", ylabel="loss")
    curves.legend(fontsize=6)
    figure.savefig(path, dpi=110)
