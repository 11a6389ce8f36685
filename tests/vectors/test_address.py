"""DATABASE_URL in the spellings of other drivers."""

from __future__ import annotations

import psycopg
import pytest

from provider.errors import ConfigurationError
from provider.vectors.address import libpq_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql+asyncpg://a:b@h:1/d?ssl=require", {"sslmode": "require"}),
        ("postgresql+asyncpg://a:b@h:1/d?ssl=true", {"sslmode": "require"}),
        ("postgres://a:b@h:1/d?sslmode=verify-full", {"sslmode": "verify-full"}),
        ("postgresql://a:b@h:1/d?pgbouncer=true&connection_limit=1", {}),
        ("postgresql+psycopg2://a:b@h:1/d", {}),
        (
            "postgresql+asyncpg://a:b@h:1/d?prepared_statement_cache_size=0&options=-csearch_path%3Dapp",
            {"options": "-csearch_path=app"},
        ),
    ],
)
def test_what_only_other_drivers_know_is_left_out(url: str, expected: dict[str, str]) -> None:
    address = {"user": "a", "password": "b", "host": "h", "port": "1", "dbname": "d"}
    assert psycopg.conninfo.conninfo_to_dict(libpq_url(url)) == {**address, **expected}


def test_a_parameter_that_nobody_knows_is_named_without_the_password() -> None:
    with pytest.raises(ConfigurationError, match="parameter 'schema'") as refused:
        libpq_url("postgresql://a:secret@h:1/d?schema=app")
    assert "secret" not in str(refused.value)
