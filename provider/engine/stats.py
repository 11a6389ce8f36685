"""Counters of one engine; written by its thread, read by anyone."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field


@dataclass
class Stats:
    """Totals since the start, and gauges of the present. Rates are over the last steps."""

    started: float = field(default_factory=time.monotonic)
    requests: int = 0
    refused: int = 0
    failed: int = 0
    cancelled: int = 0
    finished: int = 0
    steps: int = 0
    forward_rows: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    prefilled_tokens: int = 0
    generated_tokens: int = 0
    forced_tokens: int = 0
    draft_tokens: int = 0
    draft_accepted: int = 0
    preemptions: int = 0
    deaths: int = 0
    running: int = 0
    waiting: int = 0
    kv_tokens: int = 0
    kv_budget: int = 0
    kv_bytes: int = 0
    prefixes: int = 0
    tokens_per_second: float = 0.0

    def saw_step(self, rows: int, generated: int, seconds: float) -> None:
        """`rows` rows drew `generated` tokens (forced ones included) in one step."""
        self.steps += 1
        self.forward_rows += rows
        self.generated_tokens += generated
        rate = generated / seconds if seconds > 0 else 0.0
        self.tokens_per_second += 0.1 * (rate - self.tokens_per_second)

    def snapshot(self) -> dict[str, float]:
        """All figures by name, with tokens per forward pass and rows per step."""
        values = {name: float(value) for name, value in asdict(self).items() if name != "started"}
        values["tokens_per_forward"] = self.generated_tokens / max(1, self.forward_rows)
        values["batch_size"] = self.forward_rows / max(1, self.steps)
        values["uptime_seconds"] = time.monotonic() - self.started
        return values
