"""One training from its data to its adapter folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from finetune.train import checkpoints
from finetune.train.adapter_folder import MANIFEST, Origin, write_adapter
from finetune.train.arguments import arguments, rows_of_a_step
from finetune.train.base import add_adapter, in_full_precision, remove_adapter
from finetune.train.config import TrainConfig
from finetune.train.curves import write_curves
from finetune.train.disk import DISK_ERRORS, no_room
from finetune.train.journal import Journal
from finetune.train.memory import peak
from finetune.train.plan import Plan
from finetune.train.processes import is_first, world_size
from finetune.train.progress import Progress, Record, kept_best
from finetune.train.rows import collate, dataset, filled_up
from finetune.train.stops import Stops
from finetune.train.tracking import tensorboard
from finetune.train.trainer import AdapterTrainer
from provider.engine.checkpoint import Checkpoint
from provider.errors import ConfigurationError

Say = Callable[[str], None]
ADAPTER = "adapter"


@dataclass(frozen=True)
class Outcome:
    """`adapter` is the finished folder, None if training stopped before its end for `reason`.
    `peak_memory` in bytes, `seconds` of this session; `unsaved` says why the last checkpoint could
    not be written, None if it was."""

    adapter: Path | None
    reason: str | None
    step: int
    steps: int
    metrics: dict[str, Any]
    peak_memory: int
    seconds: float
    unsaved: str | None = None


def run(plan: Plan, base: Checkpoint, *, started: float, say: Say = print) -> Outcome:
    """Train from the newest whole checkpoint of the run's folder, or from the beginning.

    Raises `ConfigurationError` when the adapter cannot be written at the end; its checkpoint stays.
    """
    config, output = plan.config, plan.config.output
    began = time.monotonic()
    start = _start(plan, say)
    model: Any = add_adapter(base.model, config)
    trainer = _trainer(plan, base, model, say)
    first = bool(trainer.is_world_process_zero())
    journal = Journal(output, write=first)
    begins = checkpoints.step_of(start) if start else 0
    journal.rewind(begins)
    stops = Stops(save_minutes=config.save_minutes, max_hours=config.max_hours, started=started)
    progress = Progress(trainer, shown=first)
    record = Record(trainer, journal, patience=config.patience, progress=progress)
    for callback in (stops, record, progress):
        trainer.add_callback(callback)
    if config.tensorboard and first:
        trainer.add_callback(tensorboard(config, begins))
    last = start if start is not None and _ended(plan, start, journal) else None
    with stops:
        if last is None:
            _train(trainer, start, config)
        finished = stops.reason is None
        adapter = None
        if finished and first:
            adapter = _publish(plan, base, trainer, journal, last)
    if first:
        _draw(output, config.name, say)
    trainer.accelerator.wait_for_everyone()
    if trainer.unsaved:
        say(f"{trainer.unsaved}; free space on {output} before you go on.")
    metrics = summary(journal)
    step = checkpoints.step_of(last) if last else trainer.state.global_step
    device = base.model.device
    remove_adapter(model)
    return Outcome(
        adapter, stops.reason, step, plan.steps, metrics, peak(device),
        time.monotonic() - began, trainer.unsaved,
    )  # fmt: skip


def _draw(output: Path, title: str, say: Say) -> None:
    """A disk that is full by now costs the picture, not what was trained."""
    try:
        write_curves(output, title)
    except OSError as error:
        say(f"The learning curves could not be drawn into {output} ({error.strerror or error}).")


def finished_adapter(output: Path) -> Path | None:
    """The adapter of a training that came to its end."""
    folder = output / ADAPTER
    return folder if (folder / MANIFEST).is_file() else None


def summary(journal: Journal) -> dict[str, Any]:
    """The figures that decide: of the best evaluation, or of the last step without evaluations."""
    best, losses = journal.best(), journal.losses()
    figures: dict[str, Any] = {}
    if losses:
        last = losses[-10:]
        figures |= {"steps": losses[-1][0], "loss": round(sum(v for _, v in last) / len(last), 6)}
    if best:
        figures |= {"best_step": best[0], "eval_loss": round(best[1], 6)}
    return figures


def _ended(plan: Plan, start: Path, journal: Journal) -> bool:
    """Whether training ended at this checkpoint and was cut off before its adapter was written."""
    patience = plan.config.patience
    early = patience is not None and journal.since_best() >= patience
    return early or checkpoints.step_of(start) >= plan.steps


def _figures(journal: Journal, best: bool) -> dict[str, Any]:
    """Those of the state that is taken, the best or the last."""
    figures = summary(journal)
    if best or "best_step" not in figures:
        return figures
    del figures["best_step"]
    return figures | {"eval_loss": round(journal.evaluations()[-1][1], 6)}


def _train(trainer: AdapterTrainer, start: Path | None, config: TrainConfig) -> None:
    try:
        trainer.train(resume_from_checkpoint=str(start) if start else None)
    except torch.OutOfMemoryError as error:
        raise ConfigurationError(
            f"The device ran out of memory at step {trainer.state.global_step} with "
            f"batch_size={config.batch_size} and max_length={config.max_length}; its checkpoints "
            "stay. Halve batch_size and double accumulation in a new output, or free the device "
            "and go on with --resume."
        ) from error


def _start(plan: Plan, say: Say) -> Path | None:
    start, skipped = checkpoints.newest(plan.config.output)
    for folder, reason in skipped.items():
        say(f"{folder.name} is skipped: {reason}.")
        if is_first():
            checkpoints.discard(folder)
    if start is not None:
        say(f"Going on from {start.name}.")
    return start


def _trainer(plan: Plan, base: Checkpoint, model: Any, say: Say = print) -> AdapterTrainer:
    config = plan.config
    train = dataset(plan.train, config.max_length if config.packing else None)
    held_out = None
    if len(plan.held_out):
        processes = world_size()
        together = config.batch_size * processes if processes > 1 else 1
        held_out = filled_up(dataset(plan.held_out), together)
    lengths = [sum(row) for row in train["lengths"]]
    trainer = AdapterTrainer(
        order_seed=config.seed,
        group=rows_of_a_step(config, world_size()) if config.group_by_length else None,
        keep=config.keep,
        row_lengths=lengths,
        say=say,
        model=model,
        args=arguments(
            config,
            steps=plan.steps,
            evaluates=held_out is not None,
            device=str(base.model.device),
            dtype=base.model.dtype,
        ),
        train_dataset=train,
        eval_dataset=held_out,
        data_collator=collate,
        processing_class=base.tokenizer.hf,
    )
    in_full_precision(trainer.adapted)
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    return trainer


def _last(output: Path) -> str:
    found, _ = checkpoints.newest(output)
    return found.name if found else "no checkpoint"


def _publish(
    plan: Plan, base: Checkpoint, trainer: AdapterTrainer, journal: Journal, ended: Path | None
) -> Path:
    """The best state if it was kept, otherwise the last one: the trainer's, or that of the
    checkpoint at which training `ended` in an earlier session."""
    output = plan.config.output
    last = output / ".last"
    best = kept_best(output, journal)
    origin = Origin(
        name=plan.config.name,
        licence=plan.config.licence or base.card.licence,
        data_sha256=plan.train.sha256,
        examples=len(plan.train),
        config=plan.config.model_dump(mode="json"),
        metrics=_figures(journal, best is not None),
    )
    try:
        if best is None and ended is None:
            trainer._save(str(last))
        write_adapter(best or ended or last, output / ADAPTER, base.card, origin)
    except DISK_ERRORS as error:
        if not no_room(output, error):
            raise
        raise ConfigurationError(
            f"The adapter could not be written to {output / ADAPTER} ({error}); what is there is "
            f"{_last(output)}; free space and start again with --resume."
        ) from error
    finally:
        checkpoints.discard(last)
    return output / ADAPTER
