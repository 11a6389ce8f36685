"""The embedded PostgreSQL: starts from nothing, is shared, and survives being killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from provider.errors import ConfigurationError
from provider.vectors.embedded import Cluster
from provider.vectors.shared import SharedServer

USE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from provider.vectors.shared import SharedServer
server = SharedServer(Path(sys.argv[1]), idle_seconds=0.3)
print(server.ensure(), flush=True)
if sys.argv[2] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the server's user may enter, whoever runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="sllm-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def shared(place: Path) -> Iterator[SharedServer]:
    server = SharedServer(place / "pg", idle_seconds=0.3)
    server.cluster.initialise()
    yield server
    server.release()
    wait_until(lambda: server.cluster.postmaster() is None)


def wait_until(condition: object, seconds: float = 30.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def postmaster(server: SharedServer) -> int:
    holder = server.cluster.postmaster()
    assert holder is not None
    return holder[0]


def one(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


@pytest.mark.parametrize("version", [16, 18])
def test_a_real_server_with_pgvector_from_nothing(place: Path, version: int) -> None:
    with Cluster(place / "pg", version=version, durable=False) as cluster:
        assert int(str(one(cluster.dsn(), "show server_version_num"))) // 10000 == version
        assert one(cluster.url(), "select 1") == 1
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute("create extension vector")
            row = connection.execute("select '[1,2]'::vector <-> '[1,4]'").fetchone()
        assert row == (2.0,)
    assert cluster.postmaster() is None


def test_a_durable_server_keeps_its_rows_and_its_version(place: Path) -> None:
    with Cluster(place / "pg", version=16) as cluster:
        assert one(cluster.dsn(), "show fsync") == "on"
        with psycopg.connect(cluster.dsn()) as connection:
            connection.execute("create table kept as select 42 as answer")
    with Cluster(place / "pg", version=18) as again:
        assert again.version == 16
        assert one(again.dsn(), "select answer from kept") == 42


def test_a_path_too_long_for_a_socket(place: Path) -> None:
    deep = place / ("long" * 20) / ("er" * 20)
    with Cluster(deep, durable=False) as cluster:
        assert one(cluster.dsn(), "select 1") == 1
        assert len(str(cluster.socket)) < 100


def test_settings_reach_the_server(place: Path) -> None:
    with Cluster(place / "pg", durable=False, settings={"work_mem": "7MB"}) as cluster:
        assert one(cluster.dsn(), "show work_mem") == "7MB"


def test_an_interrupted_initialisation_leaves_nothing(place: Path) -> None:
    cluster = Cluster(place / "pg", durable=False)
    half = cluster.directory / "data.12345"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with cluster:
        assert one(cluster.dsn(), "select 1") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands over to another user")
def test_root_is_told_about_a_folder_that_the_servers_user_cannot_enter(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match=r"EMBEDDED_DATABASE_DIR=.*may not enter"):
        Cluster(closed / "pg").initialise()


def test_the_server_dies_with_its_owner(place: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from provider.vectors.embedded import Cluster\n"
        "c = Cluster(Path(sys.argv[1]), durable=False)\nc.start()\n"
        "print('up', flush=True)\ntime.sleep(60)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(place / "pg")], stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    with owner.stdout:
        assert owner.stdout.readline() == b"up\n"
    cluster = Cluster(place / "pg", durable=False)
    assert cluster.postmaster() is not None
    owner.kill()
    owner.wait()
    wait_until(lambda: cluster.postmaster() is None)


def test_processes_share_one_server_which_stops_after_the_last(
    place: Path, shared: SharedServer
) -> None:
    folder = str(shared.cluster.directory)
    users = [
        subprocess.Popen(
            [sys.executable, "-c", USE_AND_DIE, folder, how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for how in ("die", "stay", "stay")
    ]
    addresses = {user.stdout.readline().strip() for user in users if user.stdout}
    assert addresses == {shared.cluster.dsn()}
    users[0].wait()
    server = postmaster(shared)
    time.sleep(1.0)  # longer than the server may idle
    assert postmaster(shared) == server
    for user in users:
        user.communicate("")
    wait_until(lambda: shared.cluster.postmaster() is None)
    assert "shut down" in shared.cluster.log.read_text()


def test_a_killed_server_comes_back_with_what_was_confirmed(shared: SharedServer) -> None:
    with psycopg.connect(shared.ensure()) as connection:
        connection.execute("create table kept as select 42 as answer")
    before = postmaster(shared)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: shared.cluster.postmaster() not in (None, (before, True)))
    assert one(shared.ensure(), "select answer from kept") == 42


def test_a_killed_keeper_is_replaced(shared: SharedServer) -> None:
    shared.ensure()
    server = postmaster(shared)
    keeper = int(Path(f"/proc/{server}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: shared.cluster.postmaster() != (server, True))
    assert one(shared.ensure(), "select 1") == 1
    assert postmaster(shared) != server


def test_the_reason_reaches_the_user_when_the_server_cannot_start(place: Path) -> None:
    server = SharedServer(place / "pg")
    server.cluster.initialise()
    (server.cluster.data / "global" / "pg_control").unlink()
    with pytest.raises(ConfigurationError, match="did not start"):
        server.ensure()
    server.release()
