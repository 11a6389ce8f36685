"""Kill what takes part in a backfill, then compare every row bit by bit.

python -m bench.migration.kills: writers change, delete and insert rows all the time.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import psycopg

from provider.vectors.shared import SharedServer
from tests.migrations.test_backfill import backfill, prepared, wrong_vectors
from tests.migrations.test_kills import (
    answers,
    end,
    kill_backend,
    start_worker,
    terminate_backends,
    wait_until,
    writing,
)
from tests.vectors.postgres import App

Strike = Callable[[App, SharedServer], None]


def _nothing(app: App, server: SharedServer) -> None:
    """Only the worker is killed."""


def _terminate(app: App, server: SharedServer) -> None:
    terminate_backends(app)


def _backend(app: App, server: SharedServer) -> None:
    kill_backend(app)


def _postmaster(app: App, server: SharedServer) -> None:
    if (holder := server.cluster.postmaster()) is not None:
        os.kill(holder[0], signal.SIGKILL)


STRIKES: dict[str, Strike] = {
    "the worker (SIGKILL)": _nothing,
    "all its connections, then the worker": _terminate,
    "one server process (SIGKILL), then the worker": _backend,
    "the whole server (SIGKILL), then the worker": _postmaster,
}


def measure(server: SharedServer, name: str, strike: Strike, kills: int, rows: int) -> str:
    """A row of the table."""
    database = f"kills_{time.time_ns()}"
    with psycopg.connect(server.ensure(), autocommit=True) as connection:
        connection.execute(f"create database {database}")
    app = prepared(App(server.cluster.url(database)), rows)
    with writing(app) as writer:
        for _ in range(kills):
            wait_until(lambda: answers(server), 60)
            worker = start_worker(app)
            time.sleep(random.uniform(0.1, 0.9))
            strike(app, server)
            if strike is not _nothing:
                time.sleep(0.5)
            end(worker)
    wait_until(lambda: answers(server), 60)
    backfill(app)
    found = wrong_vectors(app)
    return (
        f"| {name} | {kills} | {found['rows']:,} ({writer.writes:,} writes meanwhile) | "
        f"{found['missing']} | {found['wrong']} | {found['orphans']} |"
    )


@click.command()
@click.option("--kills", default=20, show_default=True)
@click.option("--rows", default=20_000, show_default=True)
def main(kills: int, rows: int) -> None:
    """Print the matrix."""
    click.echo("| killed | times | rows | missing | wrong | orphaned |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        server = SharedServer(Path(folder) / "pg", idle_seconds=0.5)
        for name, strike in STRIKES.items():
            click.echo(measure(server, name, strike, kills, rows))
        server.release()
        wait_until(lambda: server.cluster.postmaster() is None, 60)


if __name__ == "__main__":
    main()
