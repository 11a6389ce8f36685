"""Alembic's environment. `sllm db` hands it a connection; `alembic` alone builds its own.

The version table has our own schema, so that an app's Alembic in the same database neither sees
nor drops our tables. One transaction per revision, each with a lock_timeout.
"""

from __future__ import annotations

from typing import Any

import pgvector.sqlalchemy  # noqa: F401 - autogenerate then knows the vector types
from alembic import context
from sqlalchemy import text

from migrations.parameters import Parameters
from migrations.target import Target

LOCK_TIMEOUT = "200ms"


def options(parameters: Parameters) -> dict[str, Any]:
    return {
        "parameters": parameters,
        "target_metadata": None,
        "version_table": "alembic_version",
        "version_table_schema": parameters.source.schema,
        "transaction_per_migration": True,
    }


def run_offline(target: Target) -> None:
    context.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},
        **options(target.parameters),
    )
    with context.begin_transaction():
        context.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        context.execute("SET statement_timeout = 0")
        context.execute(f"CREATE SCHEMA IF NOT EXISTS {target.parameters.schema}")
        context.run_migrations()


def run_online(target: Target) -> None:
    with target.engine.connect() as connection:
        connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {target.parameters.schema}"))
        connection.commit()
        context.configure(connection=connection, **options(target.parameters))
        with context.begin_transaction():
            context.run_migrations()


def _target() -> Target:
    given = context.config.attributes.get("target")
    if isinstance(given, Target):
        return given
    from provider.settings import Settings

    flags = context.get_x_argument(as_dictionary=True)
    return Target.of(
        Settings(),
        offline=context.is_offline_mode(),
        force=flags.get("force") in {"1", "true", "yes"},
    )


if context.is_offline_mode():
    run_offline(_target())
else:
    run_online(_target())
