"""DATABASE_URL as apps have it, for libpq."""

from __future__ import annotations

import re

import psycopg

from provider.errors import ConfigurationError

_FOREIGN = {
    "pgbouncer",
    "connection_limit",
    "pool_timeout",
    "statement_cache_size",
    "prepared_statement_cache_size",
    "async_fallback",
    "supa",
}
"""What other drivers and Supabase's addresses say of their own pools and caches."""
_SSL = {"ssl=true": "sslmode=require", "ssl=false": "sslmode=disable"}


def libpq_url(url: str) -> str:
    """DATABASE_URL as libpq wants it: without SQLAlchemy's driver name and what only other drivers
    know of their own pools and caches; asyncpg's `ssl` is libpq's `sslmode`.

    Raises `ConfigurationError`, which does not repeat the address: it may hold a password.
    """
    scheme, found, rest = url.partition("://")
    if found and scheme.split("+")[0] not in {"postgresql", "postgres"}:
        raise ConfigurationError(
            f"DATABASE_URL has the scheme {scheme!r}; expected postgresql://user@host/database. "
            "Unset it for the embedded server."
        )
    made = f"postgresql://{_without_foreign(rest)}" if found else url
    try:
        psycopg.conninfo.conninfo_to_dict(made)
    except psycopg.ProgrammingError as error:
        unknown = re.search(r'query parameter: "(\w+)"', str(error))
        if unknown is not None:
            raise ConfigurationError(
                f"DATABASE_URL has the parameter {unknown[1]!r}, which PostgreSQL's own library "
                "does not know; expected those of libpq (sslmode, options, connect_timeout ...)."
            ) from error
        raise ConfigurationError(
            "DATABASE_URL cannot be read as an address; expected "
            "postgresql://user:password@host:5432/database, where @ / : and % in a password are "
            "percent-encoded. Unset it for the embedded server."
        ) from error
    return made


def _without_foreign(rest: str) -> str:
    before, asked, query = rest.partition("?")
    kept = [_of_libpq(pair) for pair in query.split("&") if pair.partition("=")[0] not in _FOREIGN]
    return before + asked + "&".join(filter(None, kept))


def _of_libpq(pair: str) -> str:
    return _SSL.get(pair, re.sub("^ssl=", "sslmode=", pair))
