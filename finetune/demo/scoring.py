"""How good answers are: valid, exact, and the share of right values field by field."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator

_ABSENT = object()
"""Stands for a value that is not there, which is another thing than null."""


@dataclass(frozen=True)
class Score:
    """Shares between 0 and 1. `macro` is the mean over the fields, so that the many rooms do not
    drown the few verdicts; a value that is missing or one too many counts as wrong."""

    samples: int
    valid: float
    exact: float
    macro: float
    fields: dict[str, float]


def score(answers: Sequence[str], expected: Sequence[str], schema: dict[str, Any]) -> Score:
    """Compare answers with what is right. An answer that does not match the schema scores 0."""
    validator = Draft202012Validator(schema)
    right: dict[str, list[bool]] = defaultdict(list)
    valid = exact = 0
    for answer, truth_text in zip(answers, expected, strict=True):
        truth, given = json.loads(truth_text), _parse(answer, validator)
        valid += given is not None
        exact += given == truth
        for field, same in _compare(truth, given, ""):
            right[field].append(same)
    fields = {field: sum(values) / len(values) for field, values in right.items()}
    count = len(expected)
    return Score(count, valid / count, exact / count, sum(fields.values()) / len(fields), fields)


def _parse(answer: str, validator: Draft202012Validator) -> Any:
    try:
        value = json.loads(answer)
    except json.JSONDecodeError:
        return None
    return value if validator.is_valid(value) else None


def _compare(truth: Any, given: Any, path: str) -> Iterator[tuple[str, bool]]:
    """(field, right?) for every leaf; list positions share one field, `rooms[].name`."""
    if isinstance(truth, dict):
        for key, value in truth.items():
            inner = given.get(key, _ABSENT) if isinstance(given, dict) else _ABSENT
            yield from _compare(value, inner, f"{path}.{key}" if path else key)
    elif isinstance(truth, list):
        yield from _compare_lists(truth, given if isinstance(given, list) else [], f"{path}[]")
    else:
        yield path, type(truth) is type(given) and truth == given


def _compare_lists(truth: list[Any], given: list[Any], path: str) -> Iterator[tuple[str, bool]]:
    for index, value in enumerate(truth):
        yield from _compare(value, given[index] if index < len(given) else _ABSENT, path)
    for extra in given[len(truth) :]:
        yield from ((field, False) for field, _ in _compare(extra, extra, path))
