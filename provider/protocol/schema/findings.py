"""One thing that is wrong with a schema for one side, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Side = Literal["openai", "local"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`keyword` at JSON pointer `path` (of the subschema that holds it) troubles `side`.

    `refuses`: that side answers 400; otherwise it takes the schema and does not enforce this.
    `message` is what the side says, `mend` the way out.
    """

    keyword: str
    path: str
    side: Side
    message: str
    mend: str
    refuses: bool = True

    def __str__(self) -> str:
        return f"#{self.path}: {self.message} {self.mend}".strip()
