"""Writes the list of files at the end of docs/architecture.md: each file in its own first line.

python docs/files.py
"""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
MARK = "<!-- files: written by docs/files.py -->"
ROOMS = ("provider", "server", "migrations", "finetune", "bench", "examples", "tests")


def listing() -> str:
    """The section: a heading per folder, a line per Python file that git knows."""
    lines = [MARK, ""]
    for folder in sorted({path.parent for path in _sources()}):
        files = [path for path in _sources() if path.parent == folder]
        told = [(path.name, first_line(path)) for path in files]
        if not any(line for _, line in told):
            continue
        lines += [f"### {folder.as_posix()}/", ""]
        lines += [f"- `{name}` {line}" for name, line in told if line]
        lines.append("")
    return "\n".join(lines)


def first_line(path: Path) -> str:
    """The first sentence of a module's docstring, on one line; empty where there is none."""
    text = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def _sources() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--", *(f"{room}/*.py" for room in ROOMS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [Path(line) for line in listed.stdout.splitlines() if (ROOT / line).exists()]


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page.split(MARK)[0] + listing(), encoding="utf-8")


if __name__ == "__main__":
    main()
