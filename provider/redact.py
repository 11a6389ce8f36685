"""Personal data that is taken out of what is recorded: e-mail, phone, resident registration number.

The patterns are for Korean and international forms. A card or registration number is recognised by
its check digit, so that an area or a date is not taken for one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# Runs are taken whole or not at all: a long one without an @ must not be tried at each character.
EMAIL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]++@[A-Za-z0-9-]++(?:\.[A-Za-z0-9-]++)++")
PHONE = re.compile(
    r"(?<![\d-])(?:\+82[-\s.]?(?:\(0\))?|0)"
    r"(?:2|1[016789]|[3-6]\d|70|50\d?)[-\s.)]*\d{3,4}[-\s.]?\d{4}(?![\d-])"
)
RESIDENT = re.compile(
    r"(?<!\d)(\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))[-\s]?([1-8]\d{6})(?!\d)"
)

Redactor = Callable[[str], str]


def personal_data(text: str) -> str:
    """The text with `[EMAIL]`, `[PHONE]` and `[RRN]` in place of what was found."""
    text = EMAIL.sub("[EMAIL]", text)
    text = RESIDENT.sub("[RRN]", text)
    return PHONE.sub("[PHONE]", text)


def redacted(value: Any, redact: Redactor) -> Any:
    """A JSON value with every string redacted; keys stay."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [redacted(item, redact) for item in value]
    if isinstance(value, dict):
        return {key: redacted(item, redact) for key, item in value.items()}
    return value
