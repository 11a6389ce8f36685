"""The report as files: report.html, .png and .json, and problems.jsonl with every finding."""

from __future__ import annotations

import json
from pathlib import Path

from finetune.data.check import Checked
from finetune.data.figure import png
from finetune.data.page import html
from finetune.data.summary import figures
from finetune.data.write import new_file, write_text


def write_report(checked: Checked, folder: Path, max_length: int) -> Path:
    """Writes the files into `folder`, over those of an earlier report, and returns the HTML file.

    Raises `ConfigurationError` where that is not possible.
    """
    picture = png(checked, max_length)
    with new_file(folder / "report.png", again=True) as file:
        file.write(picture)
    write_text(folder / "report.json", json.dumps(figures(checked), ensure_ascii=False, indent=1))
    lines = (json.dumps(p.as_dict(), ensure_ascii=False) + "\n" for p in checked.problems)
    write_text(folder / "problems.jsonl", "".join(lines))
    write_text(folder / "report.html", html(checked, picture))
    return folder / "report.html"
