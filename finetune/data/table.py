"""Rows of a CSV file (Excel's among them) as records: the first row names the columns.

An empty cell is a column that the record does not have. Comma, semicolon and tab separate,
whichever the first row has most of.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any, BinaryIO

from finetune.data.problem import Problem, Report

SUFFIXES = (".csv", ".tsv")
_LONGEST_CELL = 32 * 2**20


def table(file: BinaryIO, source: str, report: Report) -> Iterator[tuple[int, dict[str, Any]]]:
    """`(line on which the row begins, record)`. Every other row is told to `report`."""
    csv.field_size_limit(_LONGEST_CELL)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        first = text.readline()
        text.seek(0)
        rows = csv.reader(text, delimiter=_separator(first), strict=True)
        columns = [name.strip() for name in next(rows, [])]
        if why := _unusable(columns):
            report(Problem(source, 1, "", why))
            return
        line = rows.line_num + 1
        for row in rows:
            if len(row) > len(columns):
                why = f"has {len(row)} cells; expected {len(columns)}, as the first row has"
                report(Problem(source, line, "", why))
            elif any(row):
                yield line, {k: v for k, v in zip(columns, row, strict=False) if v}
            line = rows.line_num + 1
    except UnicodeDecodeError:
        why = "is not UTF-8 (Excel's plain CSV is CP949 in Korea); save it as 'CSV UTF-8'"
        report(Problem(source, 0, "", why))
    except csv.Error as error:
        report(Problem(source, rows.line_num, "", f"is no CSV: {error}"))
    finally:
        text.detach()


def _separator(first: str) -> str:
    return max(",;\t", key=first.count)


def _unusable(columns: list[str]) -> str | None:
    if not any(columns):
        return "the file is empty; expected a first row with the columns' names"
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        return f"the column {twice[0]!r} stands twice; keep one"
    return None
