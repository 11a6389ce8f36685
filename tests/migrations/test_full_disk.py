"""A disk that runs full while vectors or an index are written: nothing is lost, the operator gets
one sentence, and the same command goes on once there is space.

The disk is a small tmpfs that holds a tablespace, so that PostgreSQL meets a real ENOSPC.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from provider.vectors import binaries
from provider.vectors.embedded import Cluster
from tests.migrations.test_backfill import prepared, wrong_vectors
from tests.vectors.postgres import App

ROWS = 1500
SIDE = "sllm.vectors_local_kosimcse_roberta_768"
SENTENCE = "No space left on device"
WAY_OUT = "Free some space, then repeat it; what was committed stays."


class Disk:
    """A small disk, and a file on it that takes what others should not find."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ballast = folder / "ballast"

    def leave(self, mebibytes: int) -> None:
        """Fill it but for so much."""
        self.free()
        with self.ballast.open("wb") as file:
            left = self._left() - mebibytes * 2**20
            file.write(bytes(left))

    def free(self) -> None:
        self.ballast.unlink(missing_ok=True)

    def _left(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize


@pytest.fixture
def disk(app: App, server: Cluster) -> Iterator[Disk]:
    """The database's new tables go to a disk of 32 MiB; skipped where nothing may be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="sllm-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m,mode=0755", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        folder.rmdir()
        pytest.skip("mounting a tmpfs needs root")
    try:
        place = folder / "tablespace"
        place.mkdir()
        user = binaries.run_user()
        if user.switch:
            os.chown(place, user.uid, user.gid)
        with psycopg.connect(app.dsn, autocommit=True) as connection:
            made = sql.SQL("create tablespace small location {}").format(sql.Literal(str(place)))
            connection.execute(made)
            name = sql.Identifier(connection.info.dbname)
            connection.execute(
                sql.SQL("alter database {} set default_tablespace = small").format(name)
            )
        yield Disk(folder)
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {} (force)").format(name))
            connection.execute("drop tablespace small")
            connection.execute(sql.SQL("create database {}").format(name))
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def test_a_full_disk_loses_nothing_and_the_backfill_goes_on(
    app: App, disk: Disk, sllm: Any
) -> None:
    prepared(app, ROWS)
    disk.leave(2)
    output = sllm("backfill", "--no-index", "--batch", "64", code=2).output
    assert SENTENCE in output
    assert output.rstrip().endswith(WAY_OUT)
    kept = app.value("select count(*) from " + SIDE)
    assert 0 < kept < ROWS

    disk.free()
    output = sllm("backfill", "--no-index", "--batch", "64").output
    assert f"{ROWS - kept:,} rows read" in output
    assert wrong_vectors(app) == {"rows": ROWS, "missing": 0, "wrong": 0, "orphans": 0}


def test_a_full_disk_during_the_index_build_is_healed_by_the_next_run(
    app: App, disk: Disk, sllm: Any
) -> None:
    prepared(app, ROWS)
    sllm("backfill", "--no-index")
    disk.leave(2)
    output = sllm("backfill", code=2).output
    assert SENTENCE in output
    assert output.rstrip().endswith(WAY_OUT)
    found = "select count(*) filter (where indisvalid), count(*) from pg_index where indexrelid = "
    assert app.rows(found + f"to_regclass('{SIDE}_hnsw')")[0][0] == 0
    assert wrong_vectors(app)["missing"] == 0

    disk.free()
    sllm("backfill")
    assert app.rows(found + f"to_regclass('{SIDE}_hnsw')") == [(1, 1)]
    assert (
        sllm("verify", "--queries", "5")
        .output.rstrip()
        .endswith("SAFE TO SWITCH to local_kosimcse_roberta_768")
    )
