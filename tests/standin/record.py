"""What the stand-in was sent, byte for byte, and how the exchange ended."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Recorded:
    """One request. `raw_headers` keep order, case and repetition; `ended` is `complete` when the
    whole answer was sent, `disconnected` when the client left first, `fault` when the stand-in
    broke it off, and empty while it is being answered. `left`: the client hung up before the
    stand-in was done."""

    method: str
    path: str
    query: str
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""
    http_version: str = "1.1"
    fault: str | None = None
    status: int | None = None
    answer: bytes = b""
    ended: str = ""
    left: bool = False
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.headers = {k.decode().lower(): v.decode("latin-1") for k, v in self.raw_headers}

    @property
    def json(self) -> Any:
        return json.loads(self.body)
