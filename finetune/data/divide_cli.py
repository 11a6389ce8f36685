"""`sllm finetune data split`, `mix` and `by-agent`."""

from __future__ import annotations

from pathlib import Path

import click

from finetune.data.options import A_PATH, PATHS, SEED, plainly
from provider.errors import ConfigurationError


@click.command()
@PATHS
@click.option("--out", type=A_PATH, required=True, metavar="DIR", help="Where the parts go.")
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.1,
    show_default=True,
    help="Share for validation.",
)
@click.option(
    "--test",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share for a final test.",
)
@click.option(
    "--near",
    type=click.FloatRange(0, 1),
    default=0.85,
    show_default=True,
    help="Resemblance from which texts stay on one side; 0: only equal ones do.",
)
@SEED
@plainly
def split(
    paths: tuple[Path, ...], out: Path, validation: float, test: float, near: float, seed: int
) -> None:
    """Divide data into train, validation and test, the same way for the same data and seed.

    Each agent_type has its share of each part; what repeats itself stays on one side.
    """
    from finetune.data.load import load
    from finetune.data.split import split as divide
    from finetune.data.write import free, write_lines

    shares = {name: s for name, s in (("validation", validation), ("test", test)) if s}
    if sum(shares.values()) >= 1:
        raise ConfigurationError(
            f"--validation {validation:g} and --test {test:g} leave nothing for training; expected "
            "a sum below 1."
        )
    files = {name: free(out / f"{name}.jsonl") for name in ("train", *shares)}
    done = divide(load(paths), shares, seed, near)
    for name, rows in done.parts.items():
        write_lines(files[name], (row.record for row in rows))
        click.echo(f"{files[name]}: {len(rows):,} conversations")
    for note in done.notes:
        click.echo(f"note: {note}")


@click.command()
@PATHS
@click.option("--ratio", required=True, metavar="6:2:2", help="A number for each PATH.")
@click.option("--total", type=click.IntRange(min=1), help="Conversations; default: the most.")
@click.option("--repeat", is_flag=True, help="Use a source that is too small several times.")
@click.option("--out", type=A_PATH, required=True, metavar="FILE", help="The mixed file.")
@SEED
@plainly
def mix(
    paths: tuple[Path, ...], ratio: str, total: int | None, repeat: bool, out: Path, seed: int
) -> None:
    """Put several sources into one file, by ratio, shuffled."""
    from finetune.data.load import load
    from finetune.data.mix import Source
    from finetune.data.mix import mix as mixed
    from finetune.data.mix import ratio as parts_of
    from finetune.data.write import free, write_lines

    parts = parts_of(ratio, len(paths))
    free(out)
    sources = [
        Source(str(path), part, load([path])) for path, part in zip(paths, parts, strict=True)
    ]
    rows = mixed(sources, total, seed, repeat)
    write_lines(out, (row.record for row in rows))
    for source in sources:
        used = sum(row.conversation.source == source.name for row in rows)
        click.echo(f"{source.name}: {used:,} of {len(source.rows):,} ({used / len(rows):.0%})")
    click.echo(f"{out}: {len(rows):,} conversations")


@click.command("by-agent")
@PATHS
@click.option("--out", type=A_PATH, required=True, metavar="DIR", help="Where the files go.")
@plainly
def by_agent_command(paths: tuple[Path, ...], out: Path) -> None:
    """Write a file for each agent_type."""
    from finetune.data.by_agent import by_agent, names
    from finetune.data.load import load
    from finetune.data.write import free, write_lines

    agents = by_agent(load(paths))
    files = names(agents, out)
    for file in files.values():
        free(file)
    for agent, rows in agents.items():
        write_lines(files[agent], (row.record for row in rows))
        click.echo(f"{files[agent]}: {len(rows):,} conversations")
