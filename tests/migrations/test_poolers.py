"""PgBouncer in transaction mode before the database: apps work, migrations are refused."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from migrations import runner
from provider.errors import ConfigurationError
from provider.vectors import AsyncVectorStore, VectorStore, binaries
from provider.vectors.embedded import Cluster
from provider.vectors.mirror import Mirror
from tests.migrations.test_backfill import backfill, wrong_vectors
from tests.vectors.postgres import App

pytestmark = pytest.mark.skipif(
    shutil.which("pgbouncer") is None, reason="pgbouncer is not installed"
)

CONFIGURATION = """
[databases]
* = host={host} port=5432
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = {mode}
default_pool_size = 4
ignore_startup_parameters = extra_float_digits,options
"""


@pytest.fixture
def pooled(app: App, server: Cluster, request: pytest.FixtureRequest) -> Iterator[App]:
    """The same database through PgBouncer, in transaction mode unless the test says otherwise."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder, user = Path(tempfile.mkdtemp(prefix="sllm-pool-")), binaries.run_user()
    folder.chmod(0o755)
    mode = getattr(request, "param", "transaction")
    (folder / "users").write_text('"postgres" ""\n')
    (folder / "ini").write_text(
        CONFIGURATION.format(host=server.socket_directory, port=port, folder=folder, mode=mode)
    )
    process = subprocess.Popen(
        ["pgbouncer", "-q", str(folder / "ini")],
        stderr=subprocess.DEVNULL,
        **user.popen_arguments(),  # type: ignore[call-overload]
    )
    name = app.dsn.split("/")[3].split("?")[0]
    found = App(f"postgresql://postgres@127.0.0.1:{port}/{name}", **app.values)
    found.embedders = app.embedders
    deadline = time.monotonic() + 20
    while True:
        try:
            found.rows("select 1")
            break
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "pgbouncer did not start"
            time.sleep(0.05)
    yield found
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    shutil.rmtree(folder)


def test_stores_share_sessions(app: App, pooled: App) -> None:
    """Statements are prepared in one session and executed in another: nothing may be prepared."""
    app.upgrade(runner.INDEXED)
    failed: list[Exception] = []

    def use(store: VectorStore, name: str) -> None:
        try:
            for number in range(12):
                (row_id,) = store.add([f"kitchen {name} {number}"])
                assert store.search(f"kitchen {name} {number}", k=1)[0].id == row_id
                store.update(row_id, {"content": f"bath {name} {number}"})
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(error)

    with VectorStore(pooled.settings(embedding_provider="local"), make=app.make) as store:
        threads = [threading.Thread(target=use, args=(store, name)) for name in "abcdef"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed, failed
    assert wrong_vectors(app) == {"rows": 72, "missing": 0, "wrong": 0, "orphans": 0}


async def test_asynchronous_stores_share_sessions(app: App, pooled: App) -> None:
    app.upgrade(runner.INDEXED)
    settings = pooled.settings(embedding_provider="local")
    async with AsyncVectorStore(settings, make=app.make) as store:

        async def use(number: int) -> None:
            (row_id,) = await store.add([f"kitchen {number}"])
            assert (await store.search(f"kitchen {number}", k=1))[0].id == row_id

        await asyncio.gather(*(use(number) for number in range(40)))


def test_the_mirror_works_through_a_pooler(app: App, pooled: App) -> None:
    app.upgrade(runner.INDEXED)
    mirror = Mirror(pooled.settings(), "local", make=app.make, interval=0.02).start()
    app.fill(200)
    deadline = time.monotonic() + 30
    while app.value("select count(*) from sllm.queue where space_id = 2"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    mirror.stop()
    assert wrong_vectors(app) == {"rows": 200, "missing": 0, "wrong": 0, "orphans": 0}


def test_migrations_and_backfills_want_a_session_of_their_own(app: App, pooled: App) -> None:
    for _ in range(3):  # an idle pooler gives the same session again and again
        with pytest.raises(ConfigurationError, match="pooler in transaction mode"):
            pooled.upgrade()
    app.upgrade()
    app.fill(10)
    with pytest.raises(ConfigurationError, match="the app itself may stay where it is"):
        backfill(pooled)


@pytest.mark.parametrize("pooled", ["session"], indirect=True)
def test_a_pooler_in_session_mode_is_as_good_as_none(app: App, pooled: App) -> None:
    pooled.values["vector_index_memory_mb"] = 64
    pooled.upgrade()
    app.fill(10)
    assert backfill(pooled, index=True).indexed
