"""Phases of a migration, and what an app under load felt in each."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from migrations.demo.load import Config, Kind, Sample

READS: tuple[Kind, ...] = ("search", "read")
WRITES: tuple[Kind, ...] = ("write",)


@dataclass(frozen=True)
class Phase:
    """A named stretch of wall-clock time."""

    name: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class Felt:
    """Latencies in milliseconds of one kind of request in one phase."""

    count: int
    p50: float
    p99: float
    worst: float
    errors: int


def felt(samples: Sequence[Sample], phase: Phase, kinds: Sequence[Kind]) -> Felt:
    """What was due in the phase."""
    inside = [s for s in samples if s.kind in kinds and phase.start <= s.due < phase.end]
    times = sorted(1000 * sample.seconds for sample in inside)
    if not times:
        return Felt(0, 0.0, 0.0, 0.0, 0)
    errors = sum(sample.error is not None for sample in inside)
    p99 = times[min(len(times) - 1, int(0.99 * len(times)))]
    return Felt(len(times), times[len(times) // 2], p99, times[-1], errors)


@dataclass
class Timeline:
    """Says each phase as it begins and ends."""

    say: Callable[[str], None]
    phases: list[Phase] = field(default_factory=list)
    started: float = field(default_factory=time.time)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begun = time.time()
        self.say(f"{begun - self.started:7.1f} s  {name} ...")
        try:
            yield
        finally:
            self.phases.append(Phase(name, begun, time.time()))
            self.say(f"{'':7}    took {time.time() - begun:.2f} s")

    def table(self, samples: Sequence[Sample]) -> str:
        """Phases against what was felt, as Markdown."""
        lines = [
            "| phase | s | reads p50 / p99 / max ms | writes p50 / p99 / max ms | errors |",
            "|---|---|---|---|---|",
        ]
        for phase in self.phases:
            reads, writes = felt(samples, phase, READS), felt(samples, phase, WRITES)
            lines.append(
                f"| {phase.name} | {phase.seconds:.1f} | {_said(reads)} | {_said(writes)} | "
                f"{reads.errors + writes.errors} |"
            )
        return "\n".join(lines)


def _said(found: Felt) -> str:
    if not found.count:
        return "-"
    return f"{found.p50:.1f} / {found.p99:.0f} / {found.worst:.0f}"


class Running:
    """A load process: change how its app talks to the database, then stop it for its samples."""

    def __init__(self, config: Config, folder: Path) -> None:
        self._out = folder / "samples.jsonl"
        path = folder / "load.json"
        path.write_text(json.dumps(asdict(replace(config, out=str(self._out)))), encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "migrations.demo.load", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def mode(self, **mode: str) -> None:
        """From now on the app does this; returns when the process knows."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the load process has no pipes")
        self._process.stdin.write(json.dumps(mode) + "\n")
        self._process.stdin.flush()
        self._process.stdout.readline()

    def stop(self) -> list[Sample]:
        self._process.communicate()
        text = self._out.read_text(encoding="utf-8")
        return [Sample(**json.loads(line)) for line in text.splitlines()]


@contextmanager
def load(config: Config) -> Iterator[Running]:
    """An app under load for as long as the block runs; `stop()` inside it gives the samples."""
    with tempfile.TemporaryDirectory() as folder:
        running = Running(config, Path(folder))
        try:
            yield running
        finally:
            running._process.kill()
            running._process.wait()
