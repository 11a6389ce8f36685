"""`sllm finetune sweep`: every combination once, in a row, and a table of what came out."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from finetune.sweep.config import RATIO, Point, Sweep, load_sweep
from finetune.train.cli import one
from finetune.train.processes import UNFINISHED
from provider.errors import ConfigurationError


@click.command()
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--report", is_flag=True, help="Only print what there is so far.")
@click.option("--dry-run", is_flag=True, help="List the runs and check the first one's data.")
def sweep(config: Path, report: bool, dry_run: bool) -> None:
    """Train every combination of values in CONFIG (YAML); finished runs are not repeated.

    Stopped by a signal, a time limit or kill -9, the same command goes on where it was.
    """
    from finetune.train.quiet import quiet

    quiet()
    started = time.monotonic()
    try:
        settled = load_sweep(config)
        click.echo(f"{len(settled.points)} runs in {settled.output}")
        if dry_run:
            _list(settled)
            return
        done = report or _train_all(settled, started)
        _report(settled)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    if not done:
        sys.exit(UNFINISHED)


def _list(settled: Sweep) -> None:
    from finetune.train.plan import make_plan

    for point in settled.points:
        click.echo(f"  {point.name}")
    first = settled.points[0]
    if RATIO not in first.values:
        for line in make_plan(first.config).lines():
            click.echo(line)


def _train_all(settled: Sweep, started: float) -> bool:
    for number, point in enumerate(settled.points, 1):
        click.echo(f"\n[{number}/{len(settled.points)}] {point.name}")
        _mix(settled, point)
        if not one(point.config, None, resume=True, dry_run=False, started=started):
            return False
    return True


def _mix(settled: Sweep, point: Point) -> None:
    """The point's data out of the sources, once; the same seed gives the same lines again."""
    if RATIO not in point.values or point.config.data.is_file():
        return
    from finetune.data.load import load
    from finetune.data.mix import Source, mix, ratio
    from finetune.data.write import write_lines

    parts = ratio(str(point.values[RATIO]), len(settled.sources))
    sources = [
        Source(str(path), part, load([path]))
        for path, part in zip(settled.sources, parts, strict=True)
    ]
    rows = mix(sources, None, point.config.seed)
    write_lines(point.config.data, (row.record for row in rows))


def _report(settled: Sweep) -> None:
    from finetune.sweep.report import rows, table, write

    settled.output.mkdir(parents=True, exist_ok=True)
    page = write(settled)
    click.echo(f"\n{table(rows(settled))}\n\n{page}")
