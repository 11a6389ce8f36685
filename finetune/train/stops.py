"""When a training saves, and when it stops before its end: by time, or because it is told to."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune.train.processes import launcher_is_gone

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ECHO = 1.0
"""Seconds in which a further signal is the same one again."""


class Stops(TrainerCallback):
    """Saves every `save_minutes`; saves and stops after `max_hours` since `started` (a time of
    `time.monotonic`), on SIGTERM or Ctrl-C, and when the launcher is gone. A second Ctrl-C stops at
    once, without saving; what comes within a second of the first does not count: launchers pass on
    a signal that a terminal or a cluster has sent to every process already.

    `reason` says why training stopped early, None if it did not. In several processes all stop at
    the same step.
    """

    def __init__(
        self, *, save_minutes: float | None, max_hours: float | None, started: float
    ) -> None:
        self.reason: str | None = None
        self._every = save_minutes * 60 if save_minutes else None
        self._limit = max_hours * 3600 if max_hours else None
        self._hours = max_hours
        self._started = started
        self._saved = time.monotonic()
        self._step_began = self._saved
        self._longest = 0.0
        self._signal: int | None = None
        self._signalled = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stops:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._signal is None:
            self._signal, self._signalled = number, now
        elif number == signal.SIGINT and now - self._signalled > _ECHO:
            raise KeyboardInterrupt

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        state.save_steps = int(args.save_steps)  # a checkpoint brings those of the session before

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._step_began = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        now = time.monotonic()
        self._longest = max(self._longest, now - self._step_began)
        last = (
            state.global_step >= state.max_steps
        )  # the adapter is next, and nothing to go on with
        stop = not last and agreed(self._wants_to_stop(now), args)
        if stop:
            self.reason = self._why()
            control.should_training_stop = True
        if stop or agreed(self._is_time_to_save(now), args):
            control.should_save = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        now = time.monotonic()
        self._longest = max(self._longest, now - self._step_began)
        self._saved = now

    def _is_time_to_save(self, now: float) -> bool:
        return self._every is not None and now - self._saved >= self._every

    def _wants_to_stop(self, now: float) -> bool:
        """The longest step so far, evaluation and saving included, must still fit."""
        late = self._limit is not None and now - self._started + self._longest >= self._limit
        return late or self._signal is not None or launcher_is_gone()

    def _why(self) -> str:
        if self._signal is not None:
            return f"{signal.Signals(self._signal).name} was received"
        if launcher_is_gone():
            return "the process that started this one is gone"
        return f"max_hours={self._hours:g} are over" if self._hours else "another process stopped"


def agreed(wanted: bool, args: TrainingArguments) -> bool:
    """Whether any of the processes wants to: they must save and stop together."""
    if args.world_size <= 1:
        return wanted
    flag = torch.tensor(int(wanted), device=args.device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag.item())
