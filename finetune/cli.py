"""The `sllm finetune` command. Each step lives in its own file and is imported when it is used."""

from __future__ import annotations

from importlib import import_module

import click

STEPS: dict[str, tuple[str, str]] = {
    "data": ("finetune.data.cli:data", "Check, split, mix and make training data."),
    "train": ("finetune.train.cli:train", "Train LoRA adapters; resume, estimate, track."),
    "sweep": ("finetune.sweep.cli:sweep", "Train every combination of values; a table and plots."),
    "evaluate": ("finetune.evaluate.cli:evaluate", "Compare a model with a reference."),
    "merge": ("finetune.export.cli:merge", "Add an adapter to its base: one model."),
    "verify": ("finetune.export.cli:verify", "Compare a merged model with base and adapter."),
    "export": ("finetune.export.cli:export", "Write a model for llama.cpp and Ollama."),
    "bundle": ("finetune.export.cli:bundle", "Collect what an air-gapped site needs."),
}
"""Name of a step to where it lives (`module:attribute`) and its line of help."""


class Steps(click.Group):
    """A group that knows its steps' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(STEPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in STEPS:
            return None
        module, attribute = STEPS[cmd_name][0].split(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{STEPS[cmd_name][0]} is not a click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in STEPS:
            raise click.UsageError(
                f"There is no step {args[0]!r}; the known ones are {', '.join(STEPS)}."
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Steps"):
            formatter.write_dl([(name, line) for name, (_, line) in STEPS.items()])


@click.group(cls=Steps)
def finetune() -> None:
    """From data to an adapter that the server takes."""
