"""What may be spent, in requests and in US dollars; kept even when many ask at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Budget:
    """`requests` and `usd` are limits (None: none); `asked` and `spent` is what is gone, earlier
    runs included. What is under way counts with the most that it can cost."""

    requests: int | None = None
    usd: float | None = None
    asked: int = 0
    spent: float = 0.0

    def take(self, most: float) -> bool:
        """Whether one more request of at most that cost may leave; it is counted if so."""
        if self.requests is not None and self.asked >= self.requests:
            return False
        if self.usd is not None and self.spent + most > self.usd:
            return False
        self.asked += 1
        self.spent += most
        return True

    def settle(self, most: float, told: float | None) -> None:
        """Puts the real cost in the place of the highest one, where it is known."""
        if told is not None:
            self.spent += told - most
