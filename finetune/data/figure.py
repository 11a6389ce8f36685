"""The check's numbers as one picture (PNG), drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from finetune.data.check import ADVISED, Checked
from finetune.data.summary import figures

_BLUE, _RED, _AMBER = "#4a7fc1", "#b3261e", "#c98a00"
_FONTS = ("Noto Sans CJK KR", "NanumGothic", "Malgun Gothic", "AppleGothic", "Noto Sans KR")
_BARS = 12


def png(checked: Checked, max_length: int) -> bytes:
    """Lengths with their limits, agents, languages and problems, as the bytes of a PNG file."""
    from matplotlib.figure import Figure

    numbers = figures(checked)
    figure = Figure(figsize=(11, 7), dpi=110, layout="constrained")
    drawn = figure.subplot_mosaic([[*"cta"], [*"lpp"]])
    rows = checked.training
    _histogram(drawn["c"], "characters", [row.characters for row in rows], ADVISED)
    counted = [row.tokens for row in rows if row.tokens is not None]
    _histogram(drawn["t"], "tokens", counted, (max_length,))
    _bars(drawn["a"], "agents", numbers["agents"], _BLUE)
    _bars(drawn["l"], "languages", numbers["languages"], _BLUE)
    kinds = {f"{p['kind']} ({p['severity']})": p["count"] for p in numbers["problems"]}
    colours = [_RED if "(error)" in kind else _AMBER for kind in kinds]
    _bars(drawn["p"], "problems", kinds, colours)
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()


def _histogram(axes: Any, title: str, values: Sequence[int], limits: Sequence[int]) -> None:
    axes.set_title(title)
    if not values:
        axes.text(0.5, 0.5, "not counted", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    reach = max(*limits, sorted(values)[len(values) * 99 // 100]) * 1.1
    axes.hist([min(value, reach) for value in values], bins=40, range=(0, reach), color=_BLUE)
    for limit in limits:
        axes.axvline(limit, color=_RED, linestyle="--", linewidth=1)
    axes.set_ylabel("conversations")


def _bars(axes: Any, title: str, counts: Mapping[str, int], colour: Any) -> None:
    axes.set_title(title)
    shown = list(counts.items())[:_BARS][::-1]
    if not shown:
        axes.text(0.5, 0.5, "none", ha="center", transform=axes.transAxes)
        axes.set_yticks([])
        return
    colours = colour if isinstance(colour, str) else colour[:_BARS][::-1]
    axes.barh(range(len(shown)), [number for _, number in shown], color=colours)
    names = [name if len(name) <= 24 else f"{name[:22]}..." for name, _ in shown]
    axes.set_yticks(range(len(shown)), _drawable(axes, names))
    axes.set_ylim(min(-0.6, len(shown) - 5), len(shown) - 0.4)


def _drawable(axes: Any, names: list[str]) -> list[str]:
    """Names that the font has; a Korean name without a Korean font becomes its place in the list,
    which the report's table explains."""
    from matplotlib import font_manager, rcParams

    if all(name.isascii() for name in names):
        return names
    installed = {font.name for font in font_manager.fontManager.ttflist}
    if font := next((font for font in _FONTS if font in installed), None):
        rcParams["font.family"] = font
        return names
    last = len(names)
    return [name if name.isascii() else f"no. {last - place}" for place, name in enumerate(names)]
