"""Where the database is, what it can do, and connections that speak vectors in binary."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from pgvector.psycopg.bit import register_bit_info
from pgvector.psycopg.halfvec import register_halfvec_info
from pgvector.psycopg.sparsevec import register_sparsevec_info
from pgvector.psycopg.vector import register_vector_info
from psycopg import sql
from psycopg.types import TypeInfo

from provider.errors import ConfigurationError
from provider.settings import Settings
from provider.vectors.address import libpq_url
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

    def check_sessions(self) -> None:
        """Raise `ConfigurationError` behind a pooler in transaction mode, which gives a connection
        another session for each transaction: a lock would belong to nobody, a setting to somebody
        else.

        A pooler announces a process id of its own. Whether it keeps sessions apart is then tried:
        the session that one connection has just used must not become the other's.
        """
        with self.connect(autocommit=True) as one, self.connect(autocommit=True) as other:
            seen = {name: {_session(each)} for name, each in (("one", one), ("other", other))}
            if seen == {"one": {one.info.backend_pid}, "other": {other.info.backend_pid}}:
                return
            for _ in range(5):
                seen["one"].add(_session(one))
                seen["other"].add(_session(other))
        if seen["one"] & seen["other"] or len(seen["one"]) + len(seen["other"]) > 2:
            raise ConfigurationError(
                "DATABASE_URL goes through a pooler in transaction mode; this command needs a "
                "session of its own. Run it with the database's direct address, or the pooler's "
                "address in session mode; the app itself may stay where it is."
            )

    def close(self) -> None:
        if self._server is not None:
            self._server.release()


def _session(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("select pg_backend_pid()").fetchone()
    return int(row[0]) if row else 0


def unreachable(error: psycopg.OperationalError) -> ConfigurationError:
    said = " ".join(str(error).split()).rstrip(".")
    return ConfigurationError(
        f"The database cannot be reached: {said}. Expected a running PostgreSQL at "
        "DATABASE_URL; unset it for the embedded server."
    )


def configure(connection: psycopg.Connection[Any]) -> None:
    """Make a fresh connection speak vectors, wherever the extension is installed.

    Changes nothing on the server: behind a pooler the session is another client's next.
    """
    run(connection, _configured(connection))
    if not connection.autocommit:
        connection.commit()


async def aconfigure(connection: psycopg.AsyncConnection[Any]) -> None:
    """`configure`, awaited."""
    await arun(connection, _configured(connection))
    if not connection.autocommit:
        await connection.commit()


def _configured(connection: psycopg.BaseConnection[Any]) -> Flow[None]:
    """Register the extension's types by their numbers. Behind a pooler nothing is prepared: a
    statement would be prepared in one session and executed in another."""
    rows = yield Query(
        "select pg_backend_pid(), t.typname::text, t.oid::int8, t.typarray::int8 "
        "from (select 1) one left join pg_extension e on e.extname = 'vector' "
        "left join pg_type t on t.typnamespace = e.extnamespace and t.typname = any(%s)",
        [list(_REGISTER)],
        prepare=False,
    )
    if rows[0][0] != connection.info.backend_pid:
        connection.prepare_threshold = None
    for _, name, oid, array in rows:
        if name is not None:
            _REGISTER[name](connection, TypeInfo(name, oid, array))
    register_bit_info(connection, TypeInfo("bit", 1560, 1561))


_REGISTER: dict[str, Callable[[psycopg.BaseConnection[Any], TypeInfo], None]] = {
    "vector": register_vector_info,
    "halfvec": register_halfvec_info,
    "sparsevec": register_sparsevec_info,
}


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
