"""Unicode general categories as character sets (`\\p{L}`, `\\p{Lu}`, `\\p{Letter}`)."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from itertools import groupby

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


@lru_cache(maxsize=64)
def _category(category: str) -> CharSet:
    found = (ranges for name, ranges in _ranges().items() if name.startswith(category))
    return charset.of(r for ranges in found for r in ranges)


@lru_cache(maxsize=1)
def _ranges() -> dict[str, list[charset.Range]]:
    """The ranges of each category. Only what has characters of several kinds is looked through:
    planes 4 to 13 and most of 14 are unassigned, 15 and 16 private but for their last two."""
    found: dict[str, list[charset.Range]] = {
        "Cn": [(0x40000, 0xDFFFF), (0xE1000, 0xEFFFF), (0xFFFFE, 0xFFFFF), (0x10FFFE, 0x10FFFF)],
        "Co": [(0xF0000, 0xFFFFD), (0x100000, 0x10FFFD)],
    }
    for first, last in ((0, 0x3FFFF), (0xE0000, 0xE0FFF)):
        start = first
        kinds = map(unicodedata.category, map(chr, range(first, last + 1)))
        for kind, run in groupby(kinds):
            after = start + sum(1 for _ in run)
            found.setdefault(kind, []).append((start, after - 1))
            start = after
    return found
