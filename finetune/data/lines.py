"""JSON objects of a file, with their line numbers; what is no JSON object becomes a problem.

Lines may be gzipped, end in CRLF and begin with a byte order mark. A file that is one JSON array
counts its items instead of lines; a CSV file has its rows.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from finetune.data.problem import BadData, Problem, Report
from finetune.data.table import SUFFIXES, table

LONGEST = 32 * 2**20
"""Bytes of one line. A longer one is skipped without being held in memory."""

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def objects(path: Path, report: Report) -> Iterator[tuple[int, dict[str, Any]]]:
    """`(line, object)` for each usable line. Every other line is told to `report`."""
    source = str(path)
    try:
        with _opened(path) as file:
            head = _peek(file)
            if why := _no_text(head):
                report(Problem(source, 0, "", why))
            elif path.name.removesuffix(".gz").lower().endswith(SUFFIXES):
                yield from table(file, source, report)
            elif head.removeprefix(_BOM).lstrip()[:1] == b"[":
                yield from _items(file, source, report)
            else:
                yield from _lines(file, source, report)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        report(Problem(source, 0, "", f"the gzip file is damaged ({error}); make it again"))
    except OSError as error:
        report(Problem(source, 0, "", f"cannot be read ({error.strerror or error})"))


def parsed(raw: bytes) -> Any:
    """The JSON value of a line. Raises ValueError with the reason as its message."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"byte {error.start + 1} is not UTF-8 (a character cut in two, or another encoding "
            "such as CP949); save the file as UTF-8"
        ) from None
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        at = f"column {error.colno}" if error.lineno == 1 else f"row {error.lineno}"
        raise ValueError(f"no JSON: {error.msg} at {at}") from None


def _lines(file: BinaryIO, source: str, report: Report) -> Iterator[tuple[int, dict[str, Any]]]:
    number = said = 0
    while raw := file.readline(LONGEST + 1):
        number += 1
        if len(raw) > LONGEST:
            said += 1
            _skip_line(file)
            report(Problem(source, number, "", f"the line is longer than {LONGEST:,} bytes"))
            continue
        if number == 1 and raw.startswith(_BOM):
            raw = raw.removeprefix(_BOM)
            report(Problem(source, 1, "", "begins with a byte order mark", "warning"))
        if not raw.strip():
            report(Problem(source, number, "", "the line is empty", "warning"))
            continue
        said += 1
        try:
            yield number, _mapping(parsed(raw))
        except ValueError as error:
            report(Problem(source, number, "", str(error)))
    if not said:
        empty = "has empty lines only" if number else "the file is empty"
        report(Problem(source, 0, "", f"{empty}; expected one JSON object a line"))


def _items(file: BinaryIO, source: str, report: Report) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        items = parsed(file.read().removeprefix(_BOM))
    except ValueError as error:
        why = f"{error}; a file that begins with [ is read as one array of objects"
        report(Problem(source, 0, "", why))
        return
    if not items:
        report(Problem(source, 0, "", "the array is empty; expected objects in it"))
    for number, item in enumerate(items, 1):
        try:
            yield number, _mapping(item)
        except ValueError as error:
            report(Problem(source, number, "", str(error)))


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"holds {_word(value)}; expected a JSON object")
    if _TWICE in value:
        raise ValueError(f"the key {value[_TWICE]!r} stands twice in one object; keep one")
    return value


def _word(value: Any) -> str:
    words = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return words.get(type(value), "a number")


_TWICE = "\0twice"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a key that stands twice in it or inside it is noted, and passed up to the line."""
    read = dict(pairs)
    if len(read) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        return {_TWICE: counts.most_common(1)[0][0]}
    for value in read.values():
        for inner in value if isinstance(value, list) else (value,):
            if isinstance(inner, dict) and _TWICE in inner:
                return inner
    return read


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON; use null or a number")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if zipped:
            with gzip.open(file) as unzipped:
                yield unzipped  # type: ignore[misc]
        else:
            yield file


def _peek(file: BinaryIO) -> bytes:
    head = file.read(4096)
    file.seek(0)
    return head


def _no_text(head: bytes) -> str | None:
    if head.startswith(_UTF16):
        return "is written in UTF-16; save it as UTF-8"
    if b"\0" in head:
        return "is no text file; expected JSON lines (optionally gzipped) or a datasets directory"
    return None


def _skip_line(file: BinaryIO) -> None:
    while (piece := file.readline(LONGEST)) and not piece.endswith(b"\n"):
        pass


def raising(problem: Problem) -> None:
    """A report that stops at the first error."""
    if problem.severity == "error":
        raise BadData(problem)
