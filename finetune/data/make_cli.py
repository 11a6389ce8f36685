"""`sllm finetune data identity` and `expand`."""

from __future__ import annotations

from pathlib import Path

import click

from finetune.data.options import A_PATH, SEED, plainly


@click.command()
@click.option("--name", required=True, help="What the model is called.")
@click.option("--maker", required=True, help="Who made it, as it should say.")
@click.option(
    "--language",
    "languages",
    multiple=True,
    type=click.Choice(["ko", "en", "ja"]),
    default=("ko", "en", "ja"),
    show_default=True,
    help="May be given several times.",
)
@click.option("--count", type=click.IntRange(min=1), help="So many pairs; default: all.")
@click.option("--agent-type", help="The agent that the pairs belong to.")
@click.option("--system", help="A system message before each pair.")
@click.option("--out", type=A_PATH, required=True, metavar="FILE", help="The file of pairs.")
@SEED
@plainly
def identity(
    name: str,
    maker: str,
    languages: tuple[str, ...],
    count: int | None,
    agent_type: str | None,
    system: str | None,
    out: Path,
    seed: int,
) -> None:
    """Make pairs that teach a model its name and maker: "Who are you?" in three languages."""
    from finetune.data.identity import identity as pairs
    from finetune.data.write import write_lines

    records = pairs(name, maker, languages, count, seed, agent_type=agent_type, system=system)
    click.echo(f"{out}: {write_lines(out, records):,} conversations")
