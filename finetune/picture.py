"""One HTML page around a picture: it needs no file beside it."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from finetune.durable import write_durably

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "img{max-width:100%}table{border-collapse:collapse;margin:.5rem 0}"
    "td,th{text-align:left;padding:.25rem .7rem;border-bottom:1px solid #ddd;vertical-align:top}"
)


def page(title: str, image: str, body: str, *, style: str = "", before: str = "") -> str:
    """`image` is an <img>; `before` and `body` are HTML already."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style>"
        f"<h1>{escape(title)}</h1>{before}{image}{body}</html>"
    )


def embedded(png: bytes, alt: str) -> str:
    """The picture inside the page."""
    encoded = base64.b64encode(png).decode("ascii")
    return f"<img alt='{escape(alt)}' src='data:image/png;base64,{encoded}'>"


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A table of texts."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def write_page(path: Path, html: str) -> Path:
    """The whole page, or the one that was there before."""
    write_durably(path, html.encode("utf-8"))
    return path
