"""The `sllm` command. Each subcommand lives in its room and is imported when it is used."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import NamedTuple

import click

from provider import rooms

rooms.prefer()  # when imported, since a spawned worker imports this module and calls nothing of it


class Subcommand(NamedTuple):
    """Where a subcommand lives (`module:attribute`), the extra it needs, and its line of help."""

    home: str
    extra: str
    help: str


SUBCOMMANDS: dict[str, Subcommand] = {
    "serve": Subcommand("server.cli:serve", "server", "Answer OpenAI's API over HTTP."),
    "exec": Subcommand("server.cli:exec_", "server", "Run a command against a server of its own."),
    "models": Subcommand("server.cli:models", "server", "List what a running server answers to."),
    "status": Subcommand("server.cli:status", "server", "Say how a running server is."),
    "switch": Subcommand("provider.switch_cli:switch", "server", "Switch providers at run time."),
    "shadow": Subcommand("provider.shadow_cli:shadow", "server", "Compare the sides on requests."),
    "model": Subcommand("provider.engine.cli:model", "local", "Inspect and convert checkpoints."),
    "lint": Subcommand("provider.protocol.cli:lint", "schema", "Check a schema for both sides."),
    "db": Subcommand("migrations.cli:db", "vectors", "Migrate and backfill the vectors."),
    "finetune": Subcommand("finetune.cli:finetune", "finetune", "Train, merge, export, evaluate."),
    "demo": Subcommand("finetune.demo.cli:demo", "finetune", "Make the demo models again."),
}


class Lazy(click.Group):
    """A group that knows its subcommands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        return load(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in SUBCOMMANDS:
            raise click.UsageError(
                f"There is no subcommand {args[0]!r}; the known ones are {_listed(SUBCOMMANDS)}."
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, sub.help) for name, sub in SUBCOMMANDS.items()])


def load(name: str) -> click.Command:
    """The subcommand itself.

    Raises `click.ClickException` naming the extra whose packages are not installed, or saying that
    the room itself is not.
    """
    home, extra, _ = SUBCOMMANDS[name]
    module, attribute = home.split(":")
    try:
        command = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name in (module, module.partition(".")[0]):
            raise click.ClickException(
                f"`sllm {name}` is not part of this installation."
            ) from error
        if (error.name or "").split(".")[0] in rooms.NAMES:
            raise
        raise click.ClickException(
            f"`sllm {name}` needs the package {error.name!r}, which is not installed: "
            f"pip install 'sllm-provider[{extra}]'."
        ) from error
    if not isinstance(command, click.Command):
        raise TypeError(f"{home} is not a click command")
    return command


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Leave a hosted OpenAI model without rewriting your app, and come back in one variable."""


if __name__ == "__main__":
    main()
