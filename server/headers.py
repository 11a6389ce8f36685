"""Response headers as bytes, whatever an upstream or a message put into them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNWRITABLE = re.compile(r"[^\t\x20-\x7e\x80-\xff]+")


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The headers as HTTP/1.1 can carry them (RFC 9110, 5.5).

    In a value, characters that it cannot carry (control characters, anything beyond Latin-1)
    become the percent-encoding of their UTF-8; a name that is none is left out.
    """
    return [
        (name.lower().encode("ascii"), writable(value))
        for name, value in headers.items()
        if _NAME.fullmatch(name)
    ]


def writable(value: str) -> bytes:
    """One value as bytes that a header may hold."""
    return _UNWRITABLE.sub(_quoted, value).encode("latin-1")


def _quoted(found: re.Match[str]) -> str:
    return quote(found.group(), safe="", errors="replace")
