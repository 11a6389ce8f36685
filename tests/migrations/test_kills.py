"""kill -9 of whatever takes part, at moments nobody chose, with writers running all the time.

Afterwards every row is compared bit by bit with what the model says about its text.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from provider.vectors.mirror import Mirror
from provider.vectors.shared import SharedServer
from tests.migrations.test_backfill import backfill, prepared, wrong_vectors
from tests.vectors.postgres import App


class Writer:
    """An app's own SQL, all the time, through interruptions of the server."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.over = threading.Event()
        self.writes = 0
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        choose = random.Random(1)
        while not self.over.is_set():
            try:
                with self.app.connect(autocommit=True) as connection:
                    while not self.over.wait(0.005):
                        self.write(connection, choose)
            except psycopg.OperationalError:
                self.over.wait(0.1)

    def write(self, connection: psycopg.Connection[object], choose: random.Random) -> None:
        number = choose.randrange(1, 2500)
        statement = choose.choice(
            [
                "update documents set content = content || ' again' where id = %s",
                "update documents set metadata = '{}' where id = %s",
                "delete from documents where id = %s",
                "insert into documents (content) values ('row ' || %s)",
            ]
        )
        connection.execute(statement, [number])
        self.writes += 1


@contextmanager
def writing(app: App) -> Iterator[Writer]:
    writer = Writer(app)
    writer.thread.start()
    try:
        yield writer
    finally:
        writer.over.set()
        writer.thread.join()


def start_worker(app: App) -> subprocess.Popen[str]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.migrations.worker", app.dsn],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert worker.stdout is not None
    assert worker.stdout.readline().strip() == "started"
    return worker


def end(worker: subprocess.Popen[str]) -> None:
    worker.kill()
    worker.wait()
    assert worker.stdout is not None
    worker.stdout.close()


def kill_worker(app: App) -> None:
    """The worker itself is killed by the caller; here nothing else happens."""


def kill_backend(app: App) -> None:
    """SIGKILL of one server process: PostgreSQL restarts all of them and recovers."""
    with app.connect(autocommit=True) as connection:
        row = connection.execute(
            "select pid from pg_stat_activity where state is not null and "
            "pid <> pg_backend_pid() order by random() limit 1"
        ).fetchone()
    if row is not None:
        os.kill(row[0], signal.SIGKILL)


def terminate_backends(app: App) -> None:
    app.rows(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where pid <> pg_backend_pid() and datname = current_database()"
    )


@pytest.mark.parametrize("strike", [kill_worker, terminate_backends])
def test_a_killed_backfill_loses_nothing(app: App, strike: Callable[[App], None]) -> None:
    prepared(app, 2500)
    choose = random.Random(7)
    with writing(app) as writer:
        for _ in range(3):
            worker = start_worker(app)
            time.sleep(choose.uniform(0.05, 0.5))
            strike(app)
            if strike is not kill_worker:
                time.sleep(0.3)
            end(worker)
    assert writer.writes > 0
    backfill(app)
    counts = wrong_vectors(app)
    assert (counts["missing"], counts["wrong"], counts["orphans"]) == (0, 0, 0)
    assert app.value("select count(*) from sllm.queue where space_id = 2") == 0


def test_a_killed_mirror_leaves_its_rows_to_the_next(app: App) -> None:
    prepared(app, 60)
    backfill(app)
    app.rows("update documents set content = content || ' changed'")
    dead = psycopg.connect(app.dsn, autocommit=True)
    dead.execute(
        "update sllm.queue set claimed_by = pg_backend_pid(), "
        "lease_until = now() + interval '1 hour'"
    )
    dead.close()
    mirror = Mirror(app.settings(), "local", make=app.make, interval=0.01).start()
    wait_until(lambda: app.value("select count(*) from sllm.queue where space_id = 2") == 0)
    mirror.stop()
    assert wrong_vectors(app)["wrong"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("strike", ["backend", "postmaster"])
def test_a_killed_server_loses_nothing(strike: str) -> None:
    """On a durable embedded server, which its keeper restarts."""
    folder = Path(tempfile.mkdtemp(prefix="sllm-test-"))
    folder.chmod(0o755)
    server = SharedServer(folder / "pg", idle_seconds=0.5)
    try:
        with psycopg.connect(server.ensure(), autocommit=True) as connection:
            connection.execute("create database app")
        app = prepared(App(server.cluster.url("app")), 2500)
        with writing(app):
            for _ in range(4):
                worker = start_worker(app)
                time.sleep(random.uniform(0.2, 0.8))
                if strike == "backend":
                    kill_backend(app)
                elif (holder := server.cluster.postmaster()) is not None:
                    os.kill(holder[0], signal.SIGKILL)
                time.sleep(1.5)
                wait_until(lambda: answers(server))
                end(worker)
        backfill(app)
        counts = wrong_vectors(app)
        assert (counts["missing"], counts["wrong"], counts["orphans"]) == (0, 0, 0)
    finally:
        server.release()
        wait_until(lambda: server.cluster.postmaster() is None)
        shutil.rmtree(folder, ignore_errors=True)


def answers(server: SharedServer) -> bool:
    try:
        psycopg.connect(server.ensure()).close()
    except psycopg.OperationalError:
        return False
    return True


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
