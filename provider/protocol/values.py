"""The sentences in which OpenAI refuses a value.

Wording, `code` and `param` follow what the hosted API answers, because clients match on them:
`invalid_type`, `invalid_value`, `missing_required_parameter`, `unknown_parameter`,
`unsupported_parameter`, `unsupported_value`, `integer_below_min_value` and their kin.
A path reads `messages[0].content`. Whatever a client sent is echoed shortened and encodable.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from provider.errors import InvalidRequest

_TYPE_WORDS: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal number",
    str: "a string",
    list: "an array",
    dict: "an object",
}
_ECHO = 100


def type_word(value: Any) -> str:
    """`a string`, `an integer`, `null`, ... for a parsed JSON value."""
    return _TYPE_WORDS.get(type(value), "an unknown value")


def shown(value: Any) -> str:
    """A value as an error message may show it: short, and free of lone surrogates."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = encodable(text)
    return text if len(text) <= _ECHO else text[: _ECHO - 3] + "..."


def encodable(text: str) -> str:
    """`text` with what UTF-8 cannot carry (lone surrogates) replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")


def is_encodable(text: str) -> bool:
    """Whether `text` is free of lone surrogates, which JSON can spell and UTF-8 cannot carry."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def listed(values: Sequence[str], conjunction: str = "and") -> str:
    """`'a'`, `'a' and 'b'`, `'a', 'b', and 'c'`."""
    quoted = [f"'{value}'" for value in values]
    if len(quoted) < 3:
        return f" {conjunction} ".join(quoted)
    return f"{', '.join(quoted[:-1])}, {conjunction} {quoted[-1]}"


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def wrong_type(path: str, expected: str, value: Any) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid type for '{path}': expected {expected}, but got {type_word(value)} instead.",
        param=path,
        code="invalid_type",
    )


def missing(path: str) -> InvalidRequest:
    return InvalidRequest(
        f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter"
    )


def unknown(path: str) -> InvalidRequest:
    path = shown(path)
    return InvalidRequest(f"Unknown parameter: '{path}'.", param=path, code="unknown_parameter")


def not_one_of(path: str, value: str, choices: Sequence[str]) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid value: '{shown(value)}'. Supported values are: {listed(choices)}.",
        param=path,
        code="invalid_value",
    )


def invalid(path: str, reason: str, code: str = "invalid_value") -> InvalidRequest:
    """`Invalid 'path': reason`."""
    return InvalidRequest(f"Invalid '{path}': {reason}", param=path, code=code)


def conflict(path: str, reason: str, code: str | None = None) -> InvalidRequest:
    """A value that is fine alone and wrong beside the others; `reason` is the whole sentence."""
    return InvalidRequest(reason, param=path, code=code)


def unsupported(path: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"Unsupported parameter: '{path}' is not supported with this model. {why}".rstrip(),
        param=path,
        code="unsupported_parameter",
    )


def unsupported_value(path: str, value: Any, choices: Sequence[Any], why: str) -> InvalidRequest:
    supported = listed([shown(choice) for choice in choices])
    return InvalidRequest(
        f"Unsupported value: '{path}' does not support '{shown(value)}' with this model. "
        f"Supported values are: {supported}. {why}".rstrip(),
        param=path,
        code="unsupported_value",
    )


def out_of_range(
    path: str, kind: str, value: float, low: float | None, high: float | None
) -> InvalidRequest:
    """`kind` is `integer` or `decimal`; exactly one bound is broken."""
    below = low is not None and value < low
    side, sign, bound = ("below minimum", ">=", low) if below else ("above maximum", "<=", high)
    return InvalidRequest(
        f"Invalid '{path}': {kind} {side} value. Expected a value {sign} {bound}, "
        f"but got {shown(value)} instead.",
        param=path,
        code=f"{kind}_{'below_min' if below else 'above_max'}_value",
    )


def wrong_length(path: str, kind: str, length: int, low: int, high: int | None) -> InvalidRequest:
    """`kind` is `string` or `array`; the length is under `low` or over `high`."""
    article = "an" if kind == "array" else "a"
    if not length:
        return InvalidRequest(
            f"Invalid '{path}': empty {kind}. Expected {article} {kind} with minimum length "
            f"{low}, but got an empty {kind} instead.",
            param=path,
            code=f"empty_{kind}",
        )
    short = length < low
    word, which, bound = ("short", "minimum", low) if short else ("long", "maximum", high)
    return InvalidRequest(
        f"Invalid '{path}': {kind} too {word}. Expected {article} {kind} with {which} length "
        f"{bound}, but got {article} {kind} with length {length} instead.",
        param=path,
        code=f"{kind}_{'below_min' if short else 'above_max'}_length",
    )
