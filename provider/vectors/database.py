"""Where the database is, what it can do, and connections that speak vectors in binary."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from typing import Any

import psycopg
from pgvector.psycopg import register_vector, register_vector_async
from psycopg import sql

from provider.errors import ConfigurationError
from provider.settings import Settings
from provider.vectors.flow import Flow, Query, arun, run
from provider.vectors.shared import SharedServer

EMBEDDED_DATABASE = "sllm"
OLDEST_SERVER, OLDEST_PGVECTOR = 14, (0, 5)


@dataclass(frozen=True)
class Capabilities:
    """What this server and its pgvector offer."""

    server: int
    """Major version of PostgreSQL."""
    pgvector: tuple[int, ...]
    extension_schema: str

    @property
    def halfvec(self) -> bool:
        return self.pgvector >= (0, 7)

    @property
    def iterative_scan(self) -> bool:
        return self.pgvector >= (0, 8)

    @property
    def security_invoker(self) -> bool:
        """Whether views can apply the row-level security of who reads them."""
        return self.server >= 15


class Database:
    """The database of the settings: DATABASE_URL, or the embedded server, started when needed.

    `conninfo()` is called before every new connection, so that an embedded server that was
    killed is awaited. `close()` gives the embedded server back. Safe to use from several threads.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.database_url.get_secret_value() if settings.database_url else None
        self._server = None if self._url else SharedServer(settings.embedded_database_dir)

    @property
    def embedded(self) -> bool:
        return self._server is not None

    def conninfo(self) -> str:
        """The address for libpq. Raises `ConfigurationError` when there is no server."""
        if self._server is None:
            return libpq_url(self._url or "")
        dsn = self._server.ensure(EMBEDDED_DATABASE)
        self._create_embedded(self._server)
        return dsn

    @functools.cache  # noqa: B019 - once per object, which lives as long as the process
    def _create_embedded(self, server: SharedServer) -> None:
        with psycopg.connect(server.ensure("postgres"), autocommit=True) as connection:
            known = "select 1 from pg_database where datname = %s"
            if connection.execute(known, [EMBEDDED_DATABASE]).fetchone() is None:
                create = sql.SQL("create database {}").format(sql.Identifier(EMBEDDED_DATABASE))
                faster = (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation)
                with contextlib.suppress(*faster):  # another process was
                    connection.execute(create)

    def connect(self, *, autocommit: bool = False) -> psycopg.Connection[Any]:
        """A connection of one's own that speaks vectors. Close it."""
        try:
            connection = psycopg.connect(self.conninfo(), autocommit=autocommit)
        except psycopg.OperationalError as error:
            raise unreachable(error) from error
        configure(connection)
        return connection

    def close(self) -> None:
        if self._server is not None:
            self._server.release()


def libpq_url(url: str) -> str:
    """DATABASE_URL as libpq wants it: without SQLAlchemy's driver name.

    Raises `ConfigurationError`, which does not repeat the address: it may hold a password.
    """
    scheme, found, rest = url.partition("://")
    if found and scheme.split("+")[0] not in {"postgresql", "postgres"}:
        raise ConfigurationError(
            f"DATABASE_URL has the scheme {scheme!r}; expected postgresql://user@host/database. "
            "Unset it for the embedded server."
        )
    made = f"postgresql://{rest}" if found else url
    try:
        psycopg.conninfo.conninfo_to_dict(made)
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(
            "DATABASE_URL cannot be read as an address; expected "
            "postgresql://user:password@host:5432/database, where @ / : and % in a password are "
            "percent-encoded. Unset it for the embedded server."
        ) from error
    return made


def unreachable(error: psycopg.OperationalError) -> ConfigurationError:
    said = " ".join(str(error).split()).rstrip(".")
    return ConfigurationError(
        f"The database cannot be reached: {said}. Expected a running PostgreSQL at "
        "DATABASE_URL; unset it for the embedded server."
    )


def configure(connection: psycopg.Connection[Any]) -> None:
    """Make a fresh connection speak vectors, wherever the extension is installed."""
    if run(connection, _see_extension()):
        register_vector(connection)
    if not connection.autocommit:
        connection.commit()


async def aconfigure(connection: psycopg.AsyncConnection[Any]) -> None:
    """`configure`, awaited."""
    if await arun(connection, _see_extension()):
        await register_vector_async(connection)
    if not connection.autocommit:
        await connection.commit()


def _see_extension() -> Flow[bool]:
    """Put the extension's schema on the search path's end; the app's own entries stay first."""
    rows = yield Query(
        "select nspname from pg_extension join pg_namespace n on n.oid = extnamespace "
        "where extname = 'vector'"
    )
    if not rows:
        return False
    yield Query(
        "select set_config('search_path', concat_ws(', ', "
        "nullif(current_setting('search_path'), ''), quote_ident(%s)), false) "
        "where not %s = any (current_schemas(true))",
        [rows[0][0], rows[0][0]],
    )
    return True


def capabilities() -> Flow[Capabilities]:
    """What the server offers.

    Raises `ConfigurationError` for PostgreSQL before 14, and for no pgvector or one before 0.5.
    """
    rows = yield Query(
        "select current_setting('server_version_num')::int / 10000, extversion, nspname "
        "from (select 1) one left join pg_extension on extname = 'vector' "
        "left join pg_namespace n on n.oid = extnamespace"
    )
    server, version, schema = rows[0]
    if server < OLDEST_SERVER:
        raise ConfigurationError(
            f"DATABASE_URL is PostgreSQL {server}; expected {OLDEST_SERVER} or later."
        )
    if version is None:
        raise ConfigurationError(
            "The database has no extension `vector`; run `sllm db upgrade`, or as a superuser: "
            "CREATE EXTENSION vector."
        )
    numbers = tuple(int(part) for part in version.split(".")[:3])
    if numbers < OLDEST_PGVECTOR:
        raise ConfigurationError(
            f"The database has pgvector {version}; expected 0.5 or later: install a newer one, "
            "then ALTER EXTENSION vector UPDATE."
        )
    return Capabilities(server, numbers, schema)
