"""`sllm model`: look at models and convert them."""

from __future__ import annotations

from pathlib import Path

import click

from provider.errors import ConfigurationError

_TARGETS = {"llama": "llama", "exaone": "original"}


@click.group()
def model() -> None:
    """Look at models and convert them."""


@model.command()
@click.argument("source")
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Choice(list(_TARGETS)),
    required=True,
    help="Layout of the result: llama (vLLM, llama.cpp, any tool) or exaone (as published).",
)
def convert(source: str, destination: Path, to: str) -> None:
    """Write a checkpoint or LoRA adapter of EXAONE-3.x in its other layout, bit for bit.

    SOURCE is a folder or hub id; DESTINATION must not exist.
    """
    from provider.engine.convert import convert as write
    from provider.engine.repository import resolve

    try:
        write(resolve(source, setting="SOURCE"), destination, _TARGETS[to])  # type: ignore[arg-type]
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{destination} holds {source} in the {to} layout.")


@model.command()
@click.argument("path")
def show(path: str) -> None:
    """Print what a model is, without loading its weights. PATH is a folder or hub id."""
    from provider.engine.describe import describe
    from provider.engine.repository import resolve

    try:
        lines = describe(resolve(path, setting="PATH"))
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    click.echo("\n".join(lines))
