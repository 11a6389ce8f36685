"""What is wrong with a line of training data, as data: file, line, field, reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from provider.errors import ConfigurationError

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `line` counts from 1 (0: the file as a whole); `field` reads
    `messages[0].content`, or is "" for the line as a whole. `kind` groups findings of one sort."""

    source: str
    line: int
    field: str
    reason: str
    severity: Severity = "error"
    kind: str = "format"

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        return f"{place}: {self.field}: {self.reason}" if self.field else f"{place}: {self.reason}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


Report = Callable[[Problem], None]
"""What is told about each finding."""


class BadData(ConfigurationError):
    """Training data that cannot be used. The message names file, line, field and reason."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem}. See `sllm finetune data check` for every problem.")
        self.problem = problem
