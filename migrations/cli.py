"""`sllm db`: adopt, plan, upgrade, backfill, sync, verify, status, contract, downgrade, sql.

Exit codes: 0 done; 1 verify found it unsafe, or a backfill left rows; 2 settings that cannot work,
or a database, disk or provider that failed.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrations.plainly import plainly
from provider.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.backfill import Job
    from migrations.target import Target
    from provider.settings import Settings


def _settings() -> Settings:
    from provider.settings import Settings

    return Settings()


def _target(**options: Any) -> Target:
    from migrations.target import Target

    return Target.of(_settings(), **options)


def _other(settings: Settings) -> str:
    """The provider that one migrates to: not that of the app's own column."""
    return "openai" if settings.vector_embedding_provider == "local" else "local"


_space = click.option(
    "--space", "-s", help="Space or provider; default: the one migrated to.", metavar="NAME"
)
_positive = click.IntRange(min=1)
_speed = click.FloatRange(min=0, min_open=True)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_force = click.option("--force", is_flag=True, help="Do it although something would be lost.")


@click.group()
def db() -> None:
    """Migrate and backfill the vectors: adopt, plan, upgrade, backfill, verify, then switch."""


@db.command()
@plainly
def adopt() -> None:
    """Look at the database, say what is there, and propose the settings. Changes nothing."""
    from migrations.adopt import adopt as look
    from provider.vectors.database import Database

    settings = _settings()
    database = Database(settings)
    with database.connect() as connection:
        found = look(connection, settings.vector_schema)
    database.close()
    for candidate in found:
        click.echo("\n".join(candidate.lines()))
    if not found:
        click.echo("No table has a vector column; `sllm db upgrade` makes a table of documents.")


@db.command()
@_space
@plainly
def plan(space: str | None) -> None:
    """Say what an upgrade and a backfill would do, cost and need. Changes nothing."""
    from migrations import runner
    from migrations.registry import connected

    target = _target()
    settings = _settings()
    at = runner.current(connected(target), settings.vector_schema)
    click.echo(f"revision {at or 'none'} -> {runner.INDEXED}")
    for new in target.parameters.spaces:
        click.echo(f"space    {new.identity.name}: {new.storage}, {new.identity.dimensions}")
    click.echo(
        "locks    triggers: SHARE ROW EXCLUSIVE on the table for some ms, readers never wait"
    )
    for name, value in target.parameters.index_settings:
        click.echo(f"index    {name} = {value}")
    if at is not None and at >= runner.EXPANDED:
        _print_estimate(settings, space)


@db.command()
@click.option("--sql", "as_sql", is_flag=True, help="Print the SQL instead of running it.")
@click.option("--expand-only", is_flag=True, help="Leave the index to `sllm db backfill`.")
@click.option(
    "--patience",
    default=300.0,
    type=click.FloatRange(min=0),
    help="Seconds to try for locks.",
    show_default=True,
)
@plainly
def upgrade(as_sql: bool, expand_only: bool, patience: float) -> None:
    """Bring the schema up to date; the index follows once no row is missing."""
    from migrations import registry, runner

    if as_sql:
        target = _target(offline=True)
        click.echo(runner.sql(target, runner.INDEXED))
        return
    target = _target()
    runner.upgrade(target, runner.EXPANDED, patience=patience)
    for name in registry.register(target):
        click.echo(f"made the space {name}")
    for name in registry.repair_triggers(target):
        click.echo(f"repaired the trigger {name}; run a backfill for what changed meanwhile")
    if expand_only:
        return
    try:
        registry.index(target)
        click.echo("up to date")
    except ConfigurationError as error:
        click.echo(f"expanded; the index waits. {error}\nnext: sllm db backfill")


@db.command()
@click.argument("revision", type=click.Choice(["base", "0001", "0002", "0003"]))
@_force
@plainly
def downgrade(revision: str, force: bool) -> None:
    """Go back to a revision (0002, 0001 or base); refuses while vectors would be lost."""
    from migrations import runner

    runner.downgrade(_target(force=force), revision)
    click.echo(f"at {revision}")


@db.command()
@_space
@click.option("--workers", default=1, show_default=True, type=_positive, help="Threads that embed.")
@click.option("--max-rows-per-second", type=_speed, help="Embed no faster than this.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    help="Most dollars to spend; default EMBEDDING_BUDGET_USD.",
)
@click.option(
    "--batch",
    default=256,
    show_default=True,
    type=_positive,
    help="Texts per call of the embedder.",
)
@click.option("--dry-run", is_flag=True, help="Say rows, time, cost and disk; embed nothing.")
@click.option("--no-index", is_flag=True, help="Do not build the index at the end.")
@plainly
def backfill(
    space: str | None,
    workers: int,
    max_rows_per_second: float | None,
    budget: float | None,
    batch: int,
    dry_run: bool,
    no_index: bool,
) -> None:
    """Embed every document that a space lacks. May be killed and run again, on many machines."""
    from migrations.backfill import Pace
    from migrations.estimate import Budget
    from migrations.fill import fill

    settings = _settings()
    if dry_run:
        _print_estimate(settings, space)
        return
    job, found = _job(settings, space)
    limit = budget if budget is not None else settings.embedding_budget_usd
    job = dataclasses.replace(
        job, pace=Pace(max_rows_per_second), budget=Budget(job.space, limit), batch=batch
    )
    with _stops(job.stop), _bar(job):
        done = fill(job, found, _target(), workers=workers, build_index=not no_index)
    tally = done.tally
    click.echo(
        f"{tally.rows:,} rows read, {tally.embedded + done.drained.embedded:,} embedded, "
        f"{tally.poison + done.drained.poison:,} poison, {tally.moved_on:,} changed meanwhile, "
        f"{tally.retries:,} retries"
    )
    if not done.readiness.ready:
        click.echo(f"{done.readiness.missing:,} rows are still missing; run it again", err=True)
        sys.exit(1)


@db.command()
@_space
@click.option("--follow", is_flag=True, help="Go on until stopped.")
@plainly
def sync(space: str | None, follow: bool) -> None:
    """Embed what changed, for one space or for all: keeps the other space warm."""
    from provider.vectors import catalog, embedding
    from provider.vectors.database import Database
    from provider.vectors.flow import run
    from provider.vectors.mirror import Mirror, drainer

    settings = _settings()
    database = Database(settings)
    with database.connect() as connection:
        found = run(connection, catalog.load_whole(settings))
    database.close()
    live = [one.name for one in found.spaces if one.state != "retired"]
    names = [found.space(space).name] if space else live
    if follow:
        mirrors = [Mirror(settings, name).start() for name in names]
        stop = threading.Event()
        with _stops(stop):
            stop.wait()
        for mirror in mirrors:
            mirror.stop()
        return
    for name in names:
        with drainer(settings, name, embedding.from_settings(settings)) as opened:
            drained = opened.drain()
        click.echo(f"{name}: {drained.entries:,} entries, {drained.embedded:,} embedded")


@db.command()
@_space
@click.option(
    "--queries",
    default=50,
    show_default=True,
    type=_positive,
    help="Queries for recall and overlap.",
)
@click.option(
    "--again", default=20, show_default=True, type=_positive, help="Documents to embed again."
)
@click.option(
    "--labelled",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='JSONL of {"query": ..., "relevant": [ids]}: compares both spaces on it.',
)
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page.")
@_as_json
@plainly
def verify(
    space: str | None,
    queries: int,
    again: int,
    labelled: Path | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Is it safe to switch? Ends with the answer; exit code 1 when it is not."""
    from migrations.verify import report as written
    from migrations.verify.run import Options
    from migrations.verify.run import verify as check

    settings = _settings()
    report = check(settings, space or _other(settings), Options(queries, again, labelled))
    if html is not None:
        html.write_text(written.as_html(report), encoding="utf-8")
    click.echo(written.as_json(report) if as_json else written.terminal(report))
    sys.exit(0 if report.safe else 1)


@db.command()
@_as_json
@plainly
def status(as_json: bool) -> None:
    """Every space: rows missing, queue, lag, index, who reads it."""
    from migrations.status import status as count

    found = count(_settings())
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(found.lines()))


@db.command()
@_space
@click.option("--yes", is_flag=True, help="Drop the vectors for good.")
@click.option(
    "--archive",
    type=click.Path(exists=False, path_type=Path),
    help="Write the vectors there first (binary COPY).",
)
@_force
@plainly
def contract(space: str | None, yes: bool, archive: Path | None, force: bool) -> None:
    """Give a space up: drop the app's old column, or with --space another one's table."""
    from migrations import contract as giving_up

    settings = _settings()
    job, _ = _job(settings, space or settings.vector_embedding_provider)
    if not yes:
        raise ConfigurationError(
            f"This drops every vector of {job.space.name!r} for good. Repeat with --yes; "
            "--archive PATH writes them to a file first."
        )
    target = _target(force=force, contract_confirmed=True)
    if archive is not None:
        size = giving_up.archive(target, job.space, archive)
        click.echo(f"{size:,} bytes written to {archive}")
    if job.space.side:
        giving_up.retire(target, job.space, force=force)
    else:
        giving_up.contract_column(target)
    click.echo(f"{job.space.name} is gone")


def _job(settings: Settings, space: str | None) -> tuple[Job, Any]:
    from migrations.backfill import Job
    from provider.vectors import catalog, embedding
    from provider.vectors.database import Database
    from provider.vectors.flow import run

    database = Database(settings)
    with database.connect() as connection:
        found = run(connection, catalog.load_whole(settings))
    chosen = found.space(space or _other(settings))
    embedder = embedding.from_settings(settings)(chosen.provider)
    return Job(database, found.source, chosen, embedder), found


def _print_estimate(settings: Settings, space: str | None) -> None:
    from migrations.estimate import estimate

    job, _ = _job(settings, space)
    with job.database.connect() as connection:
        click.echo("\n".join(estimate(connection, job.source, job.space, job.embedder).lines()))


@contextmanager
def _stops(stop: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM finish the batch under way and then stop."""
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _bar(job: Job) -> Iterator[None]:
    """A progress bar over all workers everywhere, with rate and time left, while the job runs."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    from migrations.fill import progress

    over = threading.Event()

    def draw() -> None:
        with tqdm(unit=" rows", desc=job.space.name, file=sys.stderr, dynamic_ncols=True) as bar:
            while not over.wait(0.5):
                try:
                    seen = progress(job)
                except ConfigurationError:
                    continue  # the database is away; the workers say so
                bar.total = seen.rows
                bar.update(seen.rows_done - bar.n)
            bar.update(max(0, job.tally.rows - bar.n))

    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
