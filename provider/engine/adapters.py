"""LoRA adapters, mixed freely among the rows of one step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Adapter:
    """One loaded set of weights. A reload under the same name is another adapter (another key)."""

    name: str
    key: int
