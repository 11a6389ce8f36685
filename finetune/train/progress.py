"""The progress bar, the journal's lines, the best adapter and early stopping."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune.train.checkpoints import SEAL, seal, why_not
from finetune.train.disk import DISK_ERRORS, no_room
from finetune.train.journal import Journal
from finetune.train.memory import in_use, peak
from provider.errors import ConfigurationError

BEST, STEP = "best", "step.json"
_KEPT = (
    "loss", "eval_loss", "mean_token_accuracy", "eval_mean_token_accuracy", "grad_norm",
    "learning_rate", "epoch",
)  # fmt: skip


class Progress(TrainerCallback):
    """One bar over the steps of all sessions, with loss, tokens per second, memory and the time
    left."""

    def __init__(self, trainer: Any, *, shown: bool) -> None:
        self._trainer = trainer
        self._shown = shown
        self._bar: Any = None
        self._began = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._began = time.monotonic()
        if self._shown:
            done = state.global_step
            self._bar = tqdm(total=state.max_steps, initial=done, desc="train", unit="step")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if self._bar is None or not logs or "loss" not in logs:
            return
        self._bar.n = state.global_step
        self._bar.set_postfix_str(
            f"loss {logs['loss']:.4f}, {self.rate():,.0f} tokens/s, "
            f"{in_use(args.device) / 2**30:.2f} GiB"
        )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def rate(self) -> float:
        """Tokens per second of this session, evaluation and saving included."""
        return float(self._trainer.tokens_seen) / max(time.monotonic() - self._began, 1e-9)


class Record(TrainerCallback):
    """Writes every figure into the journal, keeps the best adapter in `best/`, and stops once
    `patience` evaluations in a row were no better."""

    def __init__(
        self, trainer: Any, journal: Journal, *, patience: int | None, progress: Progress
    ) -> None:
        self.stopped_early = False
        self._trainer = trainer
        self._journal = journal
        self._patience = patience
        self._progress = progress

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        figures = {key: value for key, value in (logs or {}).items() if key in _KEPT}
        if "loss" not in figures and "eval_loss" not in figures:
            return
        _check_finite(figures, state.global_step)
        self._journal.add(
            {
                "step": state.global_step,
                **figures,
                "tokens_per_second": round(self._progress.rate(), 1),
                "peak_memory": peak(args.device),
                "time": round(time.time(), 3),
            }
        )

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        best = self._journal.best()
        if best is not None and best[0] == state.global_step and args.should_save:
            self._keep(Path(str(args.output_dir)), state.global_step)
        if self._patience and self._journal.since_best() >= self._patience:
            self.stopped_early = control.should_training_stop = True

    def _keep(self, run: Path, step: int) -> None:
        """The adapter as it is now becomes `best/`, whole or not at all. A full disk costs it; the
        last state is then taken at the end."""
        fresh, best = run / f".{BEST}.new", run / BEST
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            self._trainer._save(str(fresh))
            (fresh / STEP).write_text(json.dumps(step), encoding="utf-8")
            seal(fresh)
        except DISK_ERRORS as error:
            if not no_room(run, error):
                raise
            shutil.rmtree(fresh, ignore_errors=True)
            self._trainer.tell(f"The best state, of step {step}, could not be kept ({error}).")
            return
        (best / SEAL).unlink(missing_ok=True)
        shutil.rmtree(best, ignore_errors=True)
        fresh.rename(best)


def kept_best(run: Path, journal: Journal) -> Path | None:
    """The folder of the best state; None where there is none, or one of another step (a full disk
    kept the newer one out, or a resume went back behind it)."""
    best, folder = journal.best(), run / BEST
    if best is None or why_not(folder) is not None or not (folder / STEP).is_file():
        return None
    return folder if json.loads((folder / STEP).read_text(encoding="utf-8")) == best[0] else None


def _check_finite(figures: dict[str, Any], step: int) -> None:
    """Raises `ConfigurationError` once a loss is none: nothing is saved of such a state."""
    for name in ("loss", "eval_loss"):
        if not math.isfinite(figures.get(name, 0.0)):
            raise ConfigurationError(
                f"The {name} is {figures[name]} at step {step}: training has diverged. The last "
                "checkpoint is from before; start anew with a lower learning_rate, or with "
                "precision bf16 instead of fp16."
            )
