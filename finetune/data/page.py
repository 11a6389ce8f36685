"""The check's result as one HTML file that needs nothing else, with its picture inside."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from finetune.data.check import Checked
from finetune.data.summary import figures, verdict
from finetune.picture import embedded, page

_MOST = 2000
_STYLE = (
    ".error{color:#a40000}.warning{color:#8a5a00}"
    ".verdict{padding:1rem;border-radius:.4rem;background:#eef}"
)


def html(checked: Checked, picture: bytes) -> str:
    """The report; it lists the first 2,000 problems, `problems.jsonl` beside it has all."""
    numbers = figures(checked)
    listed = "".join(
        f"<tr class={p.severity}><td>{p.severity}<td>{escape(p.kind)}<td>{escape(p.source)}"
        f"<td>{p.line or ''}<td>{escape(p.field)}<td>{escape(p.reason)}"
        for p in checked.problems[:_MOST]
    )
    more = len(checked.problems) - _MOST
    body = (
        f"<h2>Agents</h2>{_table(numbers['agents'])}<h2>Languages</h2>"
        f"{_table(numbers['languages'])}<h2>Problems</h2>"
        "<table><tr><th><th>kind<th>file<th>line<th>field<th>reason"
        f"{listed}</table>{f'<p>... and {more:,} more in problems.jsonl</p>' if more > 0 else ''}"
    )
    image = embedded(picture, "lengths, agents, languages and problems")
    said = f"<p class=verdict>{escape(verdict(checked))}</p>"
    return page("Training data", image, body, style=_STYLE, before=said)


def _table(counts: Mapping[str, int]) -> str:
    total = sum(counts.values()) or 1
    rows = "".join(
        f"<tr><td>{place}<td>{escape(name)}<td>{number:,}<td>{number / total:.1%}"
        for place, (name, number) in enumerate(counts.items(), 1)
    )
    return f"<table><tr><th>no.<th>name<th>conversations<th>share{rows}</table>"
