"""`sllm finetune train`: from a configuration to an adapter that the server takes."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from finetune.train.config import TrainConfig, load_config
from finetune.train.launch import launch, this_command
from finetune.train.options import config_options, stated
from finetune.train.processes import UNFINISHED, is_first, is_launched, world_size
from provider.errors import ConfigurationError

if TYPE_CHECKING:
    from finetune.data.conversation import Conversation
    from finetune.train.run import Outcome


@click.command()
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("--resume", is_flag=True, help="Go on where a training in this output stopped.")
@click.option("--dry-run", is_flag=True, help="Check data and base, print the estimate, and stop.")
@click.option(
    "--processes", type=click.IntRange(min=1), help="So many on this machine: one for each GPU."
)
@config_options
def train(
    config: Path | None, resume: bool, dry_run: bool, processes: int | None, **flags: Any
) -> None:
    """Train LoRA adapters as CONFIG (YAML) says; every key of it is also a flag, which wins.

    Stops cleanly on SIGTERM, Ctrl-C and --max-hours with exit code 75, and goes on with --resume:

        until sllm finetune train night.yaml --resume; do test $? = 75 || break; done
    """
    started = time.monotonic()
    try:
        settled = load_config(config, stated(flags))
        if processes is not None and not dry_run:
            _check_launched(processes)
            if processes > 1 and not is_launched():
                sys.exit(launch(processes, this_command()))
        done = _all(settled, resume=resume, dry_run=dry_run, started=started)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    if not done:
        sys.exit(UNFINISHED)


def _check_launched(processes: int) -> None:
    if is_launched() and processes != world_size():
        raise ConfigurationError(
            f"processes={processes}, but a launcher has started {world_size()}; leave --processes "
            "out under torchrun or accelerate."
        )


def _all(config: TrainConfig, *, resume: bool, dry_run: bool, started: float) -> bool:
    """Every adapter that the configuration asks for; False if one of them is unfinished."""
    from finetune.train.quiet import quiet

    quiet()
    if config.per is None:
        return one(config, None, resume=resume, dry_run=dry_run, started=started)
    agents = _by_agent(config.data)
    if "adapters" in agents:
        raise ConfigurationError(
            "agent_type 'adapters' is the name of the folder for all of them; rename it."
        )
    asides = _by_agent(config.eval_data) if config.eval_data else None
    if asides is not None and (without := sorted(set(agents) - set(asides))):
        raise ConfigurationError(
            f"eval_data={str(config.eval_data)!r} has nothing of the agent {without[0]!r}; "
            "expected conversations of each agent in data; add them, or set eval_share instead."
        )
    click.echo(f"{len(agents)} agents: " + ", ".join(f"{k} ({len(v)})" for k, v in agents.items()))
    for agent, conversations in agents.items():
        click.echo(f"\n{agent}")
        each = config.model_copy(
            update={"per": None, "name": agent, "output": config.output / agent}
        )
        aside = asides[agent] if asides else None
        if not one(each, conversations, aside, resume=resume, dry_run=dry_run, started=started):
            return False
    if not dry_run and is_first():
        _say_how_to_serve_all(config, list(agents))
    return True


def one(
    config: TrainConfig,
    conversations: list[Conversation] | None,
    held_out: list[Conversation] | None = None,
    *,
    resume: bool,
    dry_run: bool,
    started: float,
) -> bool:
    """One adapter; False if it is unfinished. `conversations` and `held_out` are taken instead
    of the files that the configuration names."""
    from finetune.train.base import load_base
    from finetune.train.memory import release
    from finetune.train.plan import check_memory, make_plan, opened
    from finetune.train.run import finished_adapter, run
    from finetune.train.tracking import begin_tracking, check_trackers, end_tracking

    plan = make_plan(config, conversations, held_out)
    for line in plan.lines():
        _echo(line)
    check_memory(plan)
    if dry_run:
        _echo(f"Time, roughly: {_duration(plan.estimate.seconds())}")
        return True
    check_trackers(config)
    with opened(plan, resume=resume):
        if finished := finished_adapter(config.output):
            _echo(f"{finished} is finished already.")
            return True
        try:
            begin_tracking(config)
            outcome = run(plan, load_base(config), started=started, say=_echo)
        finally:
            end_tracking(config)
            release()
    _report(outcome, plan.estimate.bytes, config)
    return outcome.reason is None


def _by_agent(data: Path) -> dict[str, list[Conversation]]:
    from finetune.data.read import read_conversations

    agents: dict[str, list[Conversation]] = defaultdict(list)
    for conversation in read_conversations(data):
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
        kept = (
            "Steps since the last checkpoint are lost" if outcome.unsaved else "Everything is saved"
        )
        _echo(f"Stopped: {outcome.reason}. {kept}; go on with --resume.")
    elif outcome.adapter:
        _echo(f"Adapter: {outcome.adapter}\n{_how_to_serve(config, outcome.adapter)}")


def _how_to_serve(config: TrainConfig, adapter: Path) -> str:
    return (
        "Serve it at once (by a server that was started with SLLM_ADMIN_KEY):\n"
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
            _linked(link, Path("..") / agent / "adapter")
    base = Path(config.base).expanduser()
    settings = {
        "LLM_PROVIDER": "local",
        "LOCAL_LLM_MODEL_PATH": str(base.resolve()) if base.is_dir() else config.base,
        **({"LOCAL_LLM_REVISION": config.revision} if config.revision else {}),
        **({"LOCAL_LLM_QUANTIZATION": "nf4"} if config.method == "qlora" else {}),
        "LOCAL_LLM_ADAPTERS": str(folder.resolve()),
    }
    stated = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
    _echo(f"\nServe all of them:\n  {stated} sllm serve")


def _linked(link: Path, target: Path) -> None:
    """A link, or a copy where links need rights that users do not have (Windows)."""
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError:
        shutil.copytree(link.parent / target, link)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _echo(line: str) -> None:
    """Said once, by the first of several processes."""
    if is_first():
        click.echo(line)
