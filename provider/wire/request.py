"""A request as it goes out."""

from __future__ import annotations

import re
from collections.abc import Mapping

from provider.wire.failures import Unsendable

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NO_VALUE = re.compile(r"[\r\n\0]")
_BODILESS = frozenset({"GET", "DELETE", "OPTIONS"})


def request_bytes(method: str, target: bytes, headers: Mapping[str, str], body: bytes) -> bytes:
    """The whole request; `headers` are all but the content's length.

    Raises `Unsendable` for what would end a header early.
    """
    lines: list[str] = []
    for name, value in headers.items():
        if _NAME.fullmatch(name) is None or _NO_VALUE.search(value) is not None:
            raise Unsendable(f"the header {name!r} cannot be sent")
        lines.append(f"{name}: {value}\r\n")
    if body or method not in _BODILESS:
        lines.append(f"content-length: {len(body)}\r\n")
    head = "".join(lines)
    try:
        encoded = head.encode("latin-1")
    except UnicodeEncodeError:
        encoded = head.encode()
    return b"%s %s HTTP/1.1\r\n%s\r\n%s" % (method.encode(), target, encoded, body)
