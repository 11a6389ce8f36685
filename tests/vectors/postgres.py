"""One server for the whole run, one database for each test, and an app's table inside it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from migrations import runner
from migrations.target import Target
from provider.settings import Settings
from provider.vectors.embedded import Cluster
from provider.vectors.embedding import Embedder
from tests.vectors.embedders import BagOfWords

OPENAI, LOCAL = 512, 768
_numbers = itertools.count()

WORDS = """
room kitchen window door wall stair balcony garden light floor ceiling bath hall garage roof
north south east west open closed narrow wide bright dark quiet street river tree stone
""".split()  # noqa: SIM905 - a list of words reads as words


def text_of(number: int) -> str:
    """The text of document `number`: every number its own, neighbours share words."""
    return f"document {number} " + " ".join(
        WORDS[(number * step + step) % len(WORDS)] for step in (1, 3, 7, 11, 13)
    )


@pytest.fixture(scope="session")
def server() -> Iterator[Cluster]:
    """PostgreSQL for tests: real, not durable."""
    folder = Path(tempfile.mkdtemp(prefix="sllm-test-"))
    folder.chmod(0o755)
    version = int(os.environ.get("TEST_POSTGRES_VERSION", "18"))
    with Cluster(
        folder / "pg", version=version, durable=False, parent_death=signal.SIGQUIT
    ) as cluster:
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute("create database app_template")
        with psycopg.connect(cluster.dsn("app_template")) as connection:
            connection.execute("create extension vector")
        yield cluster
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def dsn(server: Cluster) -> Iterator[str]:
    """A database of the test's own, with the extension."""
    name = f"app_{next(_numbers)}"
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        create = sql.SQL("create database {} template app_template strategy file_copy")
        connection.execute(create.format(sql.Identifier(name)))
        yield server.url(name)
        connection.execute(sql.SQL("drop database {} (force)").format(sql.Identifier(name)))


class App:
    """A database with its settings and embedders, as one process of the app has them."""

    def __init__(self, dsn: str, **values: Any) -> None:
        self.dsn = dsn
        self.values: dict[str, Any] = {"openai_embedding_dimensions": OPENAI, **values}
        self.embedders: dict[str, BagOfWords] = {
            "openai": BagOfWords(OPENAI, seed=1),
            "local": BagOfWords(LOCAL, seed=2),
        }

    def settings(self, **values: Any) -> Settings:
        return Settings(**{"database_url": SecretStr(self.dsn), **self.values, **values})

    def make(self, name: str) -> Embedder:
        return self.embedders[name]

    def target(self, **options: Any) -> Target:
        return Target.of(self.settings(), make=self.make, **options)

    def upgrade(self, revision: str = runner.EXPANDED) -> None:
        runner.upgrade(self.target(), revision, patience=20)

    def fill(self, rows: int, start: int = 0) -> None:
        """Rows as the old app wrote them: text and 512-dimension vector.

        Without the old index, which would cost more time than everything else.
        """
        model = self.embedders["openai"]
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("drop index if exists documents_embedding_idx")
            copy = "copy documents (content, metadata, embedding) from stdin"
            with cursor.copy(copy) as writer:
                for number in range(start, start + rows):
                    text = text_of(number)
                    meta = json.dumps({"n": number, "parity": ("even", "odd")[number % 2]})
                    vector = "[" + ",".join(map(str, model.vector(text).tolist())) + "]"
                    writer.write_row((text, meta, vector))

    def connect(self, autocommit: bool = False) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn, autocommit=autocommit)

    def rows(self, query: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            cursor = connection.execute(query, parameters)
            return list(cursor.fetchall()) if cursor.description else []

    def value(self, query: LiteralString, *parameters: Any) -> Any:
        return self.rows(query, *parameters)[0][0]


@pytest.fixture
def app(dsn: str) -> App:
    """An app on an empty database."""
    return App(dsn)


@pytest.fixture
def make_app(dsn: str) -> Callable[..., App]:
    """An app with other settings."""
    return lambda **values: App(dsn, **values)
