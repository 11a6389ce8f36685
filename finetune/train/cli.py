"""`sllm finetune train`: from a configuration to an adapter that the server takes."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from finetune.train.config import TrainConfig, load_config
from finetune.train.options import config_options, stated
from finetune.train.processes import is_first
from provider.errors import ConfigurationError

if TYPE_CHECKING:
    from finetune.data.conversation import Conversation
    from finetune.train.run import Outcome

UNFINISHED = 75
"""Exit code of a training that saved and stopped before its end (EX_TEMPFAIL of sysexits.h)."""


@click.command()
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("--resume", is_flag=True, help="Go on where a training in this output stopped.")
@click.option("--dry-run", is_flag=True, help="Check data and base, print the estimate, and stop.")
@config_options
def train(config: Path | None, resume: bool, dry_run: bool, **flags: Any) -> None:
    """Train LoRA adapters as CONFIG (YAML) says; every key of it is also a flag, which wins.

    Stops cleanly on SIGTERM, Ctrl-C and --max-hours with exit code 75, and goes on with --resume:

        until sllm finetune train night.yaml --resume; do test $? = 75 || break; done
    """
    started = time.monotonic()
    try:
        settled = load_config(config, stated(flags))
        done = _all(settled, resume=resume, dry_run=dry_run, started=started)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    if not done:
        sys.exit(UNFINISHED)


def _all(config: TrainConfig, *, resume: bool, dry_run: bool, started: float) -> bool:
    """Every adapter that the configuration asks for; False if one of them is unfinished."""
    from finetune.train.quiet import quiet

    quiet()
    if config.per is None:
        return one(config, None, resume=resume, dry_run=dry_run, started=started)
    agents = _by_agent(config)
    click.echo(f"{len(agents)} agents: " + ", ".join(f"{k} ({len(v)})" for k, v in agents.items()))
    for agent, conversations in agents.items():
        click.echo(f"\n{agent}")
        each = config.model_copy(
            update={"per": None, "name": agent, "output": config.output / agent}
        )
        if not one(each, conversations, resume=resume, dry_run=dry_run, started=started):
            return False
    if not dry_run:
        _say_how_to_serve_all(config, list(agents))
    return True


def one(
    config: TrainConfig,
    conversations: list[Conversation] | None,
    *,
    resume: bool,
    dry_run: bool,
    started: float,
) -> bool:
    """One adapter; False if it is unfinished. `conversations` are taken instead of the data."""
    from finetune.train.base import load_base
    from finetune.train.plan import check_memory, make_plan, opened
    from finetune.train.quiet import tracked
    from finetune.train.run import finished_adapter, run

    plan = make_plan(config, conversations)
    for line in plan.lines():
        _echo(line)
    check_memory(plan)
    if dry_run:
        _echo(f"Time, roughly: {_duration(plan.estimate.seconds())}")
        return True
    tracked(config)
    with opened(plan, resume=resume):
        if finished := finished_adapter(config.output):
            _echo(f"{finished} is finished already.")
            return True
        outcome = run(plan, load_base(config), started=started, say=_echo)
    _report(outcome, plan.estimate.bytes, config)
    return outcome.reason is None


def _by_agent(config: TrainConfig) -> dict[str, list[Conversation]]:
    from finetune.data.read import read_conversations

    agents: dict[str, list[Conversation]] = defaultdict(list)
    for conversation in read_conversations(config.data):
        if not conversation.agent_type:
            raise ConfigurationError(
                f"{conversation.source}:{conversation.line} has no agent_type; expected one in "
                "every line with per: agent_type; add it, or train one adapter without per."
            )
        agents[conversation.agent_type].append(conversation)
    for agent in agents:
        if not agent.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise ConfigurationError(
                f"agent_type {agent!r} cannot be an adapter's name; expected letters, digits, "
                "'.', '_' and '-'."
            )
    return dict(sorted(agents.items()))


def _report(outcome: Outcome, estimated: int, config: TrainConfig) -> None:
    figures = ", ".join(f"{name} {value}" for name, value in outcome.metrics.items())
    _echo(f"Step {outcome.step} of {outcome.steps} in {_duration(outcome.seconds)}: {figures}")
    _echo(
        f"Peak memory {outcome.peak_memory / 2**30:.3f} GiB, estimated {estimated / 2**30:.3f} GiB"
    )
    if outcome.reason:
        _echo(f"Stopped: {outcome.reason}. Everything is saved; go on with --resume.")
    elif outcome.adapter:
        _echo(f"Adapter: {outcome.adapter}\n{_how_to_serve(config, outcome.adapter)}")


def _how_to_serve(config: TrainConfig, adapter: Path) -> str:
    return (
        "Serve it at once:\n"
        '  curl localhost:8000/v1/load_lora_adapter -H "Authorization: Bearer $SLLM_ADMIN_KEY" '
        f'-H \'Content-Type: application/json\' -d \'{{"lora_name":"{config.name}",'
        f'"lora_path":"{adapter.resolve()}"}}\''
    )


def _say_how_to_serve_all(config: TrainConfig, agents: list[str]) -> None:
    """The folder of a server's adapters: one sub-folder with the name of each."""
    folder = config.output / "adapters"
    folder.mkdir(exist_ok=True)
    for agent in agents:
        link = folder / agent
        if not link.is_symlink() and not link.exists():
            link.symlink_to(Path("..") / agent / "adapter", target_is_directory=True)
    _echo(f"\nServe all of them:\n  LOCAL_LLM_ADAPTERS={folder.resolve()} sllm serve")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _echo(line: str) -> None:
    """Said once, by the first of several processes."""
    if is_first():
        click.echo(line)
