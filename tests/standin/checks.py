"""A small vocabulary for describing request bodies; refusals are phrased as OpenAI's.

A check takes a value and its path (`messages[0].content`) and raises `Refusal`, or returns
nothing. `null` is refused unless the check is wrapped in `nullable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.standin.errors import Refusal

Check = Callable[[Any, str], None]

_NAMES = {bool: "a boolean", str: "a string", int: "an integer", float: "a decimal"}


def described(value: Any) -> str:
    """The value's JSON type as OpenAI names it."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    return _NAMES[type(value)]


def listed(values: Iterable[str], last: str = "and") -> str:
    quoted = [f"'{value}'" for value in values]
    if len(quoted) < 3:
        return f" {last} ".join(quoted)
    return f"{', '.join(quoted[:-1])}, {last} {quoted[-1]}"


def wrong_type(path: str, expected: str, value: Any) -> Refusal:
    got = described(value)
    got = got if got == "null" else f"{got}"
    return Refusal(
        f"Invalid type for '{path}': expected {expected}, but got {got} instead.",
        param=path,
        code="invalid_type",
    )


def missing(path: str) -> Refusal:
    return Refusal(
        f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter"
    )


def anything(value: Any, path: str) -> None:
    """Accept any JSON value."""


def boolean(value: Any, path: str) -> None:
    if not isinstance(value, bool):
        raise wrong_type(path, "a boolean", value)


def string(longest: int | None = None, shortest: int = 0, pattern: str | None = None) -> Check:
    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise wrong_type(path, "a string", value)
        if len(value) < shortest:
            raise Refusal(
                f"Invalid '{path}': empty string. Expected a string with minimum length "
                f"{shortest}, but got an empty string instead.",
                param=path,
                code="empty_string",
            )
        if longest is not None and len(value) > longest:
            raise Refusal(
                f"Invalid '{path}': string too long. Expected a string with maximum length "
                f"{longest}, but got a string with length {len(value)} instead.",
                param=path,
                code="string_above_max_length",
            )
        if pattern is not None:
            _matches(value, path, pattern)

    return check


def _matches(value: str, path: str, pattern: str) -> None:
    import re

    if not re.fullmatch(pattern, value):
        raise Refusal(
            f"Invalid '{path}': string does not match pattern. Expected a string that matches "
            f"the pattern '^{pattern}$'.",
            param=path,
            code="invalid_value",
        )


def one_of(*allowed: str) -> Check:
    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise wrong_type(path, f"one of {listed(allowed, 'or')}", value)
        if value not in allowed:
            raise Refusal(
                f"Invalid value: '{value}'. Supported values are: {listed(allowed)}.",
                param=path,
                code="invalid_value",
            )

    return check


def _ranged(path: str, kind: str, value: float, low: float | None, high: float | None) -> None:
    for limit, side, sign, outside in (
        (low, "below minimum", ">=", low is not None and value < low),
        (high, "above maximum", "<=", high is not None and value > high),
    ):
        if outside:
            word = "min" if sign == ">=" else "max"
            raise Refusal(
                f"Invalid '{path}': {kind} {side} value. Expected a value {sign} {limit}, but "
                f"got {value} instead.",
                param=path,
                code=f"{kind}_{side.split()[0]}_{word}_value",
            )


def integer(low: float | None = None, high: float | None = None) -> Check:
    def check(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(path, "an integer", value)
        _ranged(path, "integer", value, low, high)

    return check


def decimal(low: float | None = None, high: float | None = None) -> Check:
    def check(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(path, "a decimal", value)
        _ranged(path, "decimal", value, low, high)

    return check


def array(item: Check, shortest: int = 0, longest: int | None = None) -> Check:
    def check(value: Any, path: str) -> None:
        if not isinstance(value, list):
            raise wrong_type(
                path, "an array of objects" if item is not anything else "an array", value
            )
        if len(value) < shortest:
            raise Refusal(
                f"Invalid '{path}': empty array. Expected an array with minimum length "
                f"{shortest}, but got an empty array instead.",
                param=path,
                code="empty_array",
            )
        if longest is not None and len(value) > longest:
            raise Refusal(
                f"Invalid '{path}': array too long. Expected an array with maximum length "
                f"{longest}, but got an array with length {len(value)} instead.",
                param=path,
                code="array_above_max_length",
            )
        for index, member in enumerate(value):
            item(member, f"{path}[{index}]")

    return check


def mapping(item: Check, longest: int | None = None) -> Check:
    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise wrong_type(path, "an object", value)
        if longest is not None and len(value) > longest:
            raise Refusal(
                f"Invalid '{path}': too many properties. Expected an object with at most "
                f"{longest} properties, but got an object with {len(value)} properties instead.",
                param=path,
                code="object_above_max_properties",
            )
        for key, member in value.items():
            item(member, f"{path}.{key}" if path else key)

    return check


def record(fields: Mapping[str, Check], required: Iterable[str] = ()) -> Check:
    """An object with exactly these fields."""
    needed = tuple(required)

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise wrong_type(path, "an object", value)
        at = f"{path}." if path else ""
        for name in value:
            if name not in fields:
                raise Refusal(
                    f"Unknown parameter: '{at}{name}'.",
                    param=f"{at}{name}",
                    code="unknown_parameter",
                )
        for name in needed:
            if name not in value:
                raise missing(f"{at}{name}")
        for name, member in value.items():
            fields[name](member, f"{at}{name}")

    return check


def tagged(tag: str, kinds: Mapping[str, Check]) -> Check:
    """An object whose field `tag` says which of `kinds` it is."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise wrong_type(path, "an object", value)
        if tag not in value:
            raise missing(f"{path}.{tag}")
        one_of(*kinds)(value[tag], f"{path}.{tag}")
        kinds[value[tag]](value, path)

    return check


def either(expected: str, *by_type: tuple[type, Check]) -> Check:
    """The check that belongs to the value's JSON type."""

    def check(value: Any, path: str) -> None:
        for kind, inner in by_type:
            if isinstance(value, kind):
                return inner(value, path)
        raise wrong_type(path, expected, value)

    return check


def nullable(inner: Check) -> Check:
    def check(value: Any, path: str) -> None:
        if value is not None:
            inner(value, path)

    return check
