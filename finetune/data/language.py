"""Which language a text is in, by its script: Korean, Japanese, Chinese or a Latin one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

HANGUL = re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")
_KANA = re.compile(r"[\u3041-\u3096\u30a1-\u30fa\uff66-\uff9d]")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")

_KEPT = 4000
"""Characters that are looked at."""


def language(text: str) -> str:
    """`ko`, `ja`, `zh`, `en` (any Latin script) or `other` (no letters of these).

    Technical terms are often Latin in Korean and Japanese text, and a syllable counts for several
    letters, so a tenth of Hangul or kana decides; Chinese characters without either are Chinese.
    """
    text = prose(text)[:_KEPT]
    hangul, kana, han, latin = (
        len(script.findall(text)) for script in (HANGUL, _KANA, _HAN, _LATIN)
    )
    letters = hangul + kana + han + latin
    if not letters:
        return "other"
    if kana >= letters / 10 and kana + han > hangul:
        return "ja"
    if hangul >= letters / 10:
        return "ko"
    return "zh" if han > latin else "en"


def prose(text: str) -> str:
    """The text itself, or the words that a JSON answer holds (its keys are the schema's)."""
    if text[:1] not in ("{", "["):
        return text
    try:
        return " ".join(_strings(json.loads(text)))
    except (ValueError, RecursionError):
        return text


def _strings(value: Any) -> Iterator[str]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            stack += reversed(item)
        elif isinstance(item, dict):
            stack += reversed(item.values())
