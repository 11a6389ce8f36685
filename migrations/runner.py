"""Runs Alembic so that it is safe on a live database: one at a time, short locks, tried again.

Two replicas that start together do not both migrate: the second polls an advisory lock. A lock
that is waited for would hang CREATE INDEX CONCURRENTLY for ever (both wait for each other, and
PostgreSQL cannot see it, because the lock's holder is idle), so it is never waited for.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from migrations.target import Target
from provider.errors import ConfigurationError
from provider.vectors.database import Database

EXPANDED, INDEXED, CONTRACTED = "0002", "0003", "0004"
_REFUSALS = (psycopg.errors.RaiseException, psycopg.errors.ObjectNotInPrerequisiteState)
_CONTENTION = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)


def config(target: Target, output: TextIO | None = None) -> Config:
    """Alembic's configuration without any file."""
    made = Config(output_buffer=output) if output else Config()
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    made.attributes["target"] = target
    return made


def current(database: Database, schema: str) -> str | None:
    """The revision that the database is at."""
    with database.connect() as connection:
        table = f"{schema}.alembic_version"
        row = connection.execute("select to_regclass(%s) is not null", [table]).fetchone()
        if row != (True,):
            return None
        statement = psycopg.sql.SQL("select version_num from {}").format(
            psycopg.sql.Identifier(schema, "alembic_version")
        )
        found = connection.execute(statement).fetchone()
        return str(found[0]) if found else None


def upgrade(target: Target, revision: str, *, patience: float = 300.0) -> None:
    """Bring the database up to a revision; does nothing when it is there or beyond.

    A lock that is not free within 200 ms is given up and tried again about a second later, for
    `patience` seconds: a waiting DDL would make every reader queue behind it.
    """
    _run(target, lambda: command.upgrade(config(target), revision), patience, up_to=revision)


def downgrade(target: Target, revision: str, *, patience: float = 300.0) -> None:
    """Bring the database down to a revision, or to `base`."""
    _run(target, lambda: command.downgrade(config(target), revision), patience)


def sql(target: Target, revisions: str) -> str:
    """The SQL of `FROM:TO` (or of everything up to TO), for a DBA to run."""
    output = io.StringIO()
    command.upgrade(config(target, output), revisions, sql=True)
    return output.getvalue()


def revision(target: Target, name: str) -> object:
    """The module of a revision."""
    return ScriptDirectory.from_config(config(target)).get_revision(name).module


def order(target: Target) -> list[str]:
    """All revisions, oldest first."""
    script = ScriptDirectory.from_config(config(target))
    return [found.revision for found in reversed(list(script.walk_revisions()))]


def _run(target: Target, step: object, patience: float, up_to: str | None = None) -> None:
    assert callable(step)
    if target.database is None:
        raise ConfigurationError("A target made for --sql cannot be run.")
    retrying = Retrying(
        retry=retry_if_exception(_contention),
        wait=wait_random(1.0, 2.0),
        stop=stop_after_delay(patience),
        reraise=True,
    )
    schema = target.parameters.source.schema
    with alone(target.database, schema, patience):
        known = order(target)
        at = current(target.database, schema)
        if at is not None and at not in known:
            raise ConfigurationError(
                f"VECTOR_SCHEMA={schema!r} cannot be used: its alembic_version is at {at!r}, which "
                f"is none of {', '.join(known)}: another application's, or a newer release of "
                "this one. Set a schema of its own, or install that release."
            )
        if up_to is not None and at is not None and known.index(at) >= known.index(up_to):
            return
        try:
            retrying(step)
        except DBAPIError as error:
            raise translated(error) from error


def _contention(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and isinstance(error.orig, _CONTENTION)


def translated(error: Exception) -> Exception:
    """Our own refusals (RAISE EXCEPTION in a revision) as one sentence with the way out; others
    as they are."""
    origin = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(origin, _REFUSALS):
        hint = origin.diag.message_hint or ""
        return ConfigurationError(f"Refused: {origin.diag.message_primary}. {hint}".strip())
    if isinstance(origin, _CONTENTION):
        return ConfigurationError(
            "The locks were never free: somebody's transaction stays open on the table. End it "
            "(pg_stat_activity shows it), then run this again; nothing was changed."
        )
    return error


@contextmanager
def alone(database: Database, schema: str, patience: float) -> Iterator[None]:
    """Hold the right to migrate this schema; poll for it, never wait inside the database.

    Raises `ConfigurationError` behind a pooler that gives each statement another session (the
    lock would belong to nobody), and when the lock is not free within `patience` seconds.
    """
    key = f"sllm migrate {schema}"
    database.check_sessions()
    with database.connect(autocommit=True) as connection:
        deadline = time.monotonic() + patience
        while not _one(connection, "select pg_try_advisory_lock(hashtextextended(%s, 0))", key):
            if time.monotonic() > deadline:
                raise ConfigurationError("Another process is migrating and has not finished.")
            time.sleep(0.2)
        yield


def _one(connection: psycopg.Connection[Any], query: str, *parameters: str) -> object:
    row = connection.execute(query, parameters).fetchone()
    return row[0] if row else None
