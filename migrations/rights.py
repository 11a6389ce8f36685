"""What the first migration makes besides tables, the schema and the extension: made where they are
missing, and refused in one sentence where the role may not."""

from __future__ import annotations

from sqlalchemy import Connection, text

from migrations.parameters import identifier
from provider.errors import ConfigurationError

_ASKED = text(
    "SELECT current_user, current_database(), "
    "has_database_privilege(current_database(), 'CREATE'), "
    "EXISTS (SELECT FROM pg_namespace WHERE nspname = :schema), "
    "EXISTS (SELECT FROM pg_extension WHERE extname = 'vector')"
)


def create_schema(connection: Connection, schema: str) -> None:
    """Make our schema unless it is there. CREATE SCHEMA IF NOT EXISTS asks for the right to make
    one even then, so that a role could not migrate in a schema that it was given.

    Raises `ConfigurationError` with the statements for a superuser when the role may make neither
    the schema nor the extension that is missing.
    """
    row = connection.execute(_ASKED, {"schema": schema}).one()
    role, database, may_create, has_schema, has_extension = row
    if not may_create and not (has_schema and has_extension):
        wanted = [] if has_extension else ["CREATE EXTENSION vector;"]
        if not has_schema:
            wanted.append(f"CREATE SCHEMA {identifier(schema)} AUTHORIZATION {identifier(role)};")
        raise ConfigurationError(
            f"The role {role!r} may not create "
            f"{' and '.join(_missing(schema, has_schema, has_extension))} in the database "
            f"{database!r}. As a superuser run there: {' '.join(wanted)} Then repeat this."
        )
    if not has_schema:
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {identifier(schema)}"))


def _missing(schema: str, has_schema: bool, has_extension: bool) -> list[str]:
    parts = [] if has_extension else ["the extension vector"]
    return parts if has_schema else [*parts, f"the schema {schema!r}"]
