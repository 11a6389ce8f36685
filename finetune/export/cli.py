"""`sllm finetune merge`, `verify`, `export` and `bundle`."""

from __future__ import annotations

from pathlib import Path

import click

from provider.errors import ConfigurationError

_FOLDER = click.Path(path_type=Path, file_okay=False)
_NEW = click.Path(path_type=Path)


@click.command()
@click.argument("base")
@click.argument("adapter", type=_FOLDER)
@click.argument("out", type=_NEW)
@click.option(
    "--into",
    type=click.Choice(["original", "dequantised"]),
    default="original",
    show_default=True,
    help="original: to serve in the base's precision. dequantised: to serve in 4 bit, after "
    "training in 4 bit.",
)
@click.option(
    "--layout",
    type=click.Choice(["original", "llama"]),
    help="EXAONE-3.x under its published names or under Llama's. Unset: as the base.",
)
@click.option(
    "--dtype",
    type=click.Choice(["bf16", "fp16", "fp32"]),
    help="Precision of the result. Unset: as the base, tensor by tensor.",
)
def merge(
    base: str, adapter: Path, out: Path, into: str, layout: str | None, dtype: str | None
) -> None:
    """Add the LoRA adapter in ADAPTER to BASE (a folder or hub id) and write the model to OUT.

    The sum is computed in fp32 and rounded once. OUT must not exist; it appears whole or not at
    all. Memory is that of the adapter and of the base's largest tensor.
    """
    from finetune.export.merge import merge as write

    try:
        done = write(base, adapter, out, into=into, layout=layout, dtype=dtype)  # type: ignore[arg-type]
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    click.echo("\n".join(done.lines(out)))
