"""A record that is no conversation."""

from __future__ import annotations


class Malformed(ValueError):
    """The field and the reason."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason.strip().removesuffix(".")
