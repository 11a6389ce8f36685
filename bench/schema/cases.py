"""Schemas with instances that are known to be valid or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Case:
    """A schema, and values with whether they are valid."""

    name: str
    schema: Any
    tests: tuple[tuple[Any, bool], ...]


def read(folder: Path) -> Iterator[Case]:
    """The cases of all `*.json` below a folder: one `{"schema", "tests": [{"data", "valid"}]}`
    per file, or a list of them (the form of the JSON-Schema-Test-Suite)."""
    for path in sorted(folder.rglob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        for at, case in enumerate(content if isinstance(content, list) else [content]):
            if not isinstance(case, dict) or "schema" not in case or "tests" not in case:
                continue
            tests = tuple((t["data"], t["valid"]) for t in case["tests"])
            yield Case(f"{path.relative_to(folder)}#{at}", case["schema"], tests)
