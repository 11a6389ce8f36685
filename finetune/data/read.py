"""Conversations of a file or a datasets directory, whatever their format."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune.data.conversation import Conversation
from finetune.data.formats import conversation
from finetune.data.lines import objects, raising
from finetune.data.malformed import Malformed
from finetune.data.problem import Problem, Report


def read_conversations(path: Path, report: Report = raising) -> Iterator[Conversation]:
    """The conversations of a JSONL or CSV file (plain or gzipped), of a JSON array, or of a
    directory that `datasets` saved, in the formats of `finetune.data.formats`.

    A line that cannot be used is told to `report` and left out. The default report raises `BadData`
    (a `ConfigurationError`) at the first such line, naming file, line, field and reason.
    """
    for line, record in records(path, report):
        try:
            yield conversation(record, str(path), line)
        except Malformed as error:
            report(Problem(str(path), line, error.field, error.reason))


def records(path: Path, report: Report = raising) -> Iterator[tuple[int, dict[str, Any]]]:
    """`(line, record)`; in a datasets directory, the line is the row, counted from 1."""
    return _rows(path, report) if os.path.isdir(path) else objects(path, report)


def _rows(path: Path, report: Report) -> Iterator[tuple[int, dict[str, Any]]]:
    import datasets  # type: ignore[import-untyped]

    if why := _no_dataset(path):
        report(Problem(str(path), 0, "", why))
        return
    try:
        table = datasets.load_from_disk(str(path))
    except Exception as error:  # noqa: BLE001 - pyarrow's and datasets' own kinds, many
        report(Problem(str(path), 0, "", f"cannot be read as a datasets directory ({error})"))
        return
    if not len(table):
        report(Problem(str(path), 0, "", "the dataset has no rows"))
    for number, row in enumerate(table, 1):
        yield number, _without_nulls(row)


def _no_dataset(path: Path) -> str | None:
    """Why a directory is none that is read; several splits are never thrown together."""
    try:
        names = {entry.name for entry in path.iterdir()}
        if "state.json" in names:
            return None
        if "dataset_dict.json" in names:
            listed = json.loads((path / "dataset_dict.json").read_text("utf-8"))["splits"]
            splits = ", ".join(str(path / split) for split in listed)
            return f"holds several splits; name one of {splits}"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    except (ValueError, KeyError, TypeError) as error:
        return f"dataset_dict.json cannot be read ({error})"
    return "is no datasets directory; expected what save_to_disk wrote, or name a .jsonl file"


def _without_nulls(value: Any) -> Any:
    """Arrow fills each object up to the columns of all; null members were never said."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
