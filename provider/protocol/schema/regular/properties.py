"""Unicode general categories as character sets (`\\p{L}`, `\\p{Lu}`, `\\p{Letter}`)."""

from __future__ import annotations

import sys
import unicodedata
from functools import lru_cache

from provider.protocol.schema.regular import charset
from provider.protocol.schema.regular.charset import CharSet

_NAMES = {
    "Letter": "L",
    "Lowercase_Letter": "Ll",
    "Uppercase_Letter": "Lu",
    "Titlecase_Letter": "Lt",
    "Modifier_Letter": "Lm",
    "Other_Letter": "Lo",
    "Mark": "M",
    "Number": "N",
    "Decimal_Number": "Nd",
    "digit": "Nd",
    "Punctuation": "P",
    "punct": "P",
    "Symbol": "S",
    "Separator": "Z",
    "Space_Separator": "Zs",
    "Other": "C",
    "Control": "Cc",
    "cntrl": "Cc",
}
_MAJOR = "LMNPSZC"


def unicode_property(name: str) -> CharSet | None:
    """The set of a general category by short or long name (also `gc=`), None if unknown."""
    wanted = name.removeprefix("General_Category=").removeprefix("gc=")
    if wanted == "Any":
        return charset.ALL
    if wanted == "ASCII":
        return charset.of([(0, 0x7F)])
    category = _NAMES.get(wanted, wanted)
    if category[:1] not in _MAJOR or len(category) > 2:
        return None
    return _category(category) or None


@lru_cache(maxsize=8)
def _category(category: str) -> CharSet:
    ranges = []
    start = -1
    for code in range(sys.maxunicode + 2):
        inside = code <= sys.maxunicode and unicodedata.category(chr(code)).startswith(category)
        if inside and start < 0:
            start = code
        elif not inside and start >= 0:
            ranges.append((start, code - 1))
            start = -1
    return charset.of(ranges)
