"""A training before anything heavy is loaded: its examples, its estimate, its folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from finetune.data.conversation import Conversation
from finetune.data.read import read_conversations
from finetune.durable import write_durably
from finetune.train.arguments import steps_in_all
from finetune.train.config import TrainConfig, write_config
from finetune.train.estimate import Estimate, estimate
from finetune.train.examples import Examples, encode, held_out
from finetune.train.fingerprint import differences, fingerprint
from finetune.train.packing import packed
from finetune.train.processes import is_first, world_size
from provider.engine.chat import ChatTokenizer, declared_eos
from provider.engine.device import free_memory
from provider.engine.exaone import CHAT_TEMPLATE
from provider.engine.model_card import read_json
from provider.engine.repository import resolve
from provider.errors import ConfigurationError

RUN, CONFIG = "run.json", "config.yaml"
_MAY_CHANGE = {
    "base", "data", "eval_data", "output", "name", "licence", "device", "attention",
    "gradient_checkpointing", "patience", "save_steps", "save_minutes", "keep", "max_hours",
    "tensorboard", "wandb", "memory_limit",
}  # fmt: skip
"""Keys that a resume may set anew: places, limits and tracking. Others would bend the curve."""


@dataclass(frozen=True)
class Plan:
    """`folder` is the base's; `rows` of the training set, `steps` of the optimiser in all."""

    config: TrainConfig
    folder: Path
    train: Examples
    held_out: Examples
    rows: int
    steps: int
    estimate: Estimate

    def lines(self) -> list[str]:
        """What will be trained, and what it needs."""
        aside = f", {len(self.held_out):,} for evaluation" if len(self.held_out) else ""
        left_out = [
            f"{count} {what}"
            for count, what in (
                (self.train.dropped, "too long and dropped"),
                (self.train.truncated, "too long and cut"),
            )
            if count
        ]
        return [
            f"{len(self.train):,} examples ({self.train.tokens:,} tokens, "
            f"{self.train.learnt:,} learnt){aside}" + "".join(f"; {each}" for each in left_out),
            f"{self.rows:,} rows, {self.steps:,} steps of {self.config.batch_size} x "
            f"{self.config.accumulation} rows" + _processes(),
            f"Memory on {self.estimate.device}, estimated:",
            *self.estimate.lines(),
        ]


def make_plan(
    config: TrainConfig,
    conversations: Sequence[Conversation] | None = None,
    evaluation: Sequence[Conversation] | None = None,
) -> Plan:
    """Read, encode and check; `conversations` and `evaluation` instead of the files that the
    configuration names.

    Raises `ConfigurationError` in one sentence for data, base or memory that do not work.
    """
    folder = resolve(config.base, config.revision, setting="base")
    tokenizer = _tokenizer(folder)
    _check_length(folder, config)
    if conversations is None:
        conversations = list(read_conversations(config.data))
    every = _encoded(conversations, tokenizer, config)
    train, aside = held_out(every, 0 if config.eval_data else config.eval_share)
    if config.eval_data:
        asked = evaluation or list(read_conversations(config.eval_data))
        aside = _encoded(asked, tokenizer, config)
    rows = [[n] for n in range(len(train))]
    if config.packing:
        rows = packed([len(row) for row in train.rows], config.max_length)
    steps = steps_in_all(config, len(rows), world_size())
    needed = _estimate(folder, config, train, rows, steps)
    return Plan(config, folder, train, aside, len(rows), steps, needed)


def check_memory(plan: Plan) -> None:
    """Raises `ConfigurationError` when the estimate is more than there is."""
    device, limit = plan.estimate.device, plan.config.memory_limit
    room = free_memory(device) if limit is None else int(limit * 2**30)
    if plan.estimate.bytes <= room:
        return
    whose = f"memory_limit={limit}" if limit is not None else f"{device} has"
    ways = [
        *(["method: qlora"] if plan.config.method == "lora" else []),
        *([] if plan.config.gradient_checkpointing else ["gradient_checkpointing: true"]),
        *(["a smaller batch_size with more accumulation"] if plan.config.batch_size > 1 else []),
        "a smaller max_length",
    ]
    raise ConfigurationError(
        f"This training needs about {plan.estimate.bytes / 2**30:.2f} GiB but {whose} "
        f"{room / 2**30:.2f} GiB; choose {', '.join(ways)}, or set memory_limit if you know better."
    )


@contextmanager
def opened(plan: Plan, *, resume: bool) -> Iterator[None]:
    """The run's folder, ours alone while it lasts.

    Raises `ConfigurationError` when it holds another training, one that `resume` was not given for,
    or when another process trains in it. Of several processes that train together, the first asks.
    """
    if not is_first():
        yield
        return
    output = plan.config.output
    lock = FileLock(output / ".lock", timeout=0)
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise ConfigurationError(
            f"Another process trains in {output}; wait for it or give another output."
        ) from error
    except OSError as error:
        raise _unwritable(output, error) from error
    try:
        _check_same(plan, resume=resume)
        _note(plan)
        yield
    finally:
        lock.release()


def _note(plan: Plan) -> None:
    """What a resume is compared with, and the configuration for people."""
    output = plan.config.output
    try:
        write_config(plan.config, output / CONFIG)
        write_durably(output / RUN, json.dumps(_identity(plan), indent=2).encode())
    except OSError as error:
        raise _unwritable(output, error) from error


def _unwritable(output: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"output={str(output)!r} cannot be written to ({error.strerror or error}); expected a "
        "folder on a disk with room; free space or give another output."
    )


def _check_same(plan: Plan, *, resume: bool) -> None:
    path = plan.config.output / RUN
    if not path.is_file():
        return
    if not resume:
        raise ConfigurationError(
            f"{plan.config.output} holds a training already; continue it with --resume, or give "
            "another output."
        )
    before, now = read_json(path), _identity(plan)
    changed = [
        f"{key} was {before['config'].get(key)!r} and is {value!r}"
        for key, value in now["config"].items()
        if key not in _MAY_CHANGE and before["config"].get(key) != value
    ]
    if before["data_sha256"] != now["data_sha256"]:
        changed.append("the training data are others")
    if before.get("eval_sha256", now["eval_sha256"]) != now["eval_sha256"]:
        changed.append("the held-out data are others")
    changed += differences(before.get("base", now["base"]), now["base"])
    if before.get("processes", 1) != now["processes"]:
        changed.append(f"processes were {before.get('processes', 1)} and are {now['processes']}")
    if changed:
        raise ConfigurationError(
            f"{plan.config.output} cannot be continued: {'; '.join(changed)}; put it back as it "
            "was, or give another output for a new training."
        )


def _identity(plan: Plan) -> dict[str, Any]:
    return {
        "config": plan.config.model_dump(mode="json"),
        "data_sha256": plan.train.sha256,
        "eval_sha256": plan.held_out.sha256,
        "base": fingerprint(plan.folder),
        "steps": plan.steps,
        "processes": world_size(),
    }


def _check_length(folder: Path, config: TrainConfig) -> None:
    """Positions beyond the base's context are ones that it has never seen, and a server's limit."""
    context = read_json(folder / "config.json").get("max_position_embeddings")
    if isinstance(context, int) and config.max_length > context:
        raise ConfigurationError(
            f"max_length={config.max_length} is beyond the {context} tokens of {folder}; expected "
            "at most that; lower it, or take a base with a longer context."
        )


def _tokenizer(folder: Path) -> ChatTokenizer:
    kind = read_json(folder / "config.json").get("model_type")
    template = CHAT_TEMPLATE if kind == "exaone" else None
    return ChatTokenizer.load(folder, declared_eos(folder), template)


def _encoded(
    conversations: Sequence[Conversation], tokenizer: ChatTokenizer, config: TrainConfig
) -> Examples:
    return encode(
        conversations,
        tokenizer,
        max_length=config.max_length,
        too_long=config.too_long,
        compact=config.json_answers == "compact",
    )


def _estimate(
    folder: Path, config: TrainConfig, train: Examples, rows: Sequence[Sequence[int]], steps: int
) -> Estimate:
    lengths = sorted((sum(len(train.rows[n]) for n in row) for row in rows), reverse=True)
    seen = steps * config.batch_size * config.accumulation * world_size() / max(len(rows), 1)
    epochs = seen if config.max_steps else config.epochs
    return estimate(
        folder,
        config,
        batch_tokens=sum(lengths[: config.batch_size]),
        tokens=int(train.tokens * epochs),
        learnt=int(train.learnt * epochs),
    )


def _processes() -> str:
    count = world_size()
    return f" x {count} processes" if count > 1 else ""
