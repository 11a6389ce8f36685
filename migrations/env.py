"""Alembic's environment. `sllm db` hands it a target; `alembic` alone builds its own.

The version table has our own schema, so that an app's Alembic in the same database neither sees
nor drops our tables. One transaction per revision, each with a lock_timeout.
"""

from __future__ import annotations

import contextlib
from functools import cached_property
from typing import Any

import pgvector.sqlalchemy  # noqa: F401 - autogenerate then knows the vector types
from alembic import context
from alembic.util import CommandError
from sqlalchemy import text

from migrations import rights, runner
from migrations.parameters import Parameters, identifier
from migrations.plainly import sentence
from migrations.target import Target, engine
from provider.settings import Settings
from provider.vectors.database import Database

LOCK_TIMEOUT = "200ms"


class Later:
    """The parameters of the settings, found when a revision first asks: commands that only look,
    such as `alembic current`, need neither the table nor an embedder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _found(self) -> Parameters:
        flags = context.get_x_argument(as_dictionary=True)
        force = flags.get("force") in {"1", "true", "yes"}
        offline = context.is_offline_mode()
        return Target.of(self._settings, offline=offline, force=force).parameters

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found, name)


def options(parameters: Parameters | Later, schema: str) -> dict[str, Any]:
    return {
        "parameters": parameters,
        "target_metadata": None,
        "version_table": "alembic_version",
        "version_table_schema": schema,
        "transaction_per_migration": True,
    }


def run_offline(parameters: Parameters | Later, schema: str) -> None:
    context.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},
        **options(parameters, schema),
    )
    with context.begin_transaction():
        context.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        context.execute("SET statement_timeout = 0")
        context.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(schema)}")
        context.run_migrations()


def run_online(
    database: Database, parameters: Parameters | Later, schema: str, *, guard: bool
) -> None:
    """With `guard` nobody else migrates meanwhile; `sllm db` has seen to that already."""
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(engine(database).connect())
        context.configure(connection=connection, **options(parameters, schema))
        if not context.get_context().opts.get("dont_mutate"):
            if guard:
                stack.enter_context(runner.alone(database, schema, 60.0))
            connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
            rights.create_schema(connection, schema)
            connection.commit()
        with context.begin_transaction():
            context.run_migrations()


def run_alone() -> None:
    """For the `alembic` command: the same guard against a second one, and one sentence for what
    fails."""
    settings = Settings()
    parameters, schema = Later(settings), settings.vector_schema
    if context.is_offline_mode():
        run_offline(parameters, schema)
        return
    database = Database(settings)
    with contextlib.closing(database):
        run_online(database, parameters, schema, guard=True)


def run() -> None:
    given = context.config.attributes.get("target")
    if not isinstance(given, Target):
        try:
            run_alone()
        except CommandError:
            raise
        except Exception as error:
            if (said := sentence(runner.translated(error))) is None:
                raise
            raise CommandError(said) from error
    elif given.database is None:
        run_offline(given.parameters, given.parameters.source.schema)
    else:
        run_online(given.database, given.parameters, given.parameters.source.schema, guard=False)


run()
