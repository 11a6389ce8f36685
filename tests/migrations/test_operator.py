"""What an operator gets for odd names, wrong flags and a database that fails: one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import Result

from migrations import backfill as job
from provider.errors import ConfigurationError
from provider.vectors.embedded import Cluster
from provider.vectors.source import joined_table, split_table
from tests.vectors.embedders import Refusal
from tests.vectors.postgres import App

Call = Callable[..., Result]


def refused(sllm: Call, *arguments: str) -> str:
    """The one sentence (or few) that a command ends with."""
    said = sllm(*arguments, code=2).output.strip().splitlines()[-1]
    assert said.startswith(("sllm: ", "Error: ")), said
    return said


def test_a_table_with_names_of_all_kinds(
    app: App, sllm: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.rows('create schema "Ware House.v2"')
    app.rows(
        'create table "Ware House.v2"."Odd ""Docs"" 100 :x" ('
        '"Row Id" uuid primary key default gen_random_uuid(), "제목" varchar(200), '
        '"body: text" text, "Vec" vector(512) not null default array_fill(0.1::real, '
        "array[512])::vector)"
    )
    app.rows(
        'insert into "Ware House.v2"."Odd ""Docs"" 100 :x" ("제목", "body: text") '
        "select 'title ' || n, case when n = 3 then null else 'a longer body ' || n end "
        "from generate_series(1, 40) n"
    )
    found = sllm("adopt").output
    proposed = dict(re.findall(r"^  ([A-Z_]+)=(.*)$", found, re.MULTILINE))
    assert proposed["VECTOR_TABLE"] == '"Ware House.v2".Odd "Docs" 100 :x'
    assert "NOT NULL" in found
    for name, value in proposed.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VECTOR_TEXT_COLUMNS", "제목,body: text")

    assert "next: sllm db backfill" in sllm("upgrade").output
    assert "40 to embed" in sllm("backfill", "--dry-run").output
    assert "40 embedded" in sllm("backfill", "--batch", "7").output
    assert 'Ware House.v2.Odd "Docs" 100 :x' in sllm("status").output
    app.rows('update "Ware House.v2"."Odd ""Docs"" 100 :x" set "제목" = $$a\'b$$ where true')
    assert "40 embedded" in sllm("sync", "-s", "local").output
    assert "SAFE TO SWITCH" in sllm("verify", "--queries", "3", "--again", "3").output
    sllm("contract", "--yes")
    assert "Vec" not in str(
        app.rows(
            "select column_name from information_schema.columns "
            "where table_schema = 'Ware House.v2'"
        )
    )


@pytest.mark.parametrize(
    ("schema", "table"),
    [("public", "t"), ("s", "t"), ("a.b", 'c"d'), ("public", "a.b"), ('"q"', "x.y"), ("s", '"')],
)
def test_table_names_are_joined_and_split(schema: str, table: str) -> None:
    assert split_table(joined_table(schema, table)) == (schema, table)


@pytest.mark.parametrize("name", ["a.b.c", "a.", ".b", '"a', 'x."', '""'])
def test_a_table_name_that_cannot_be_read_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="VECTOR_TABLE"):
        split_table(name)


@pytest.mark.parametrize(
    "arguments",
    [
        ("backfill", "--workers", "0"),
        ("backfill", "--batch", "-1"),
        ("backfill", "--max-rows-per-second", "0"),
        ("backfill", "--budget", "-0.5"),
        ("verify", "--queries", "0"),
        ("upgrade", "--patience", "soon"),
        ("downgrade", "0009"),
        ("backfill", "--space", "nowhere"),
        ("contract", "--space", "nowhere", "--yes"),
    ],
)
def test_wrong_flags_are_named(sllm: Call, arguments: tuple[str, ...]) -> None:
    sllm("upgrade")
    said = refused(sllm, *arguments)
    assert arguments[-1] in said or arguments[-2] in said


def test_a_percent_sign_in_a_name_is_refused(
    app: App, sllm: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with app.connect() as connection:
        connection.execute('create table documents (id int primary key, "100%" text)')
    monkeypatch.setenv("VECTOR_TEXT_COLUMNS", "100%")
    assert "VECTOR_TEXT_COLUMNS='100%' cannot be used" in refused(sllm, "upgrade")


def test_files_that_cannot_be_written(sllm: Call, app: App, tmp_path: Path) -> None:
    sllm("upgrade")
    app.fill(20)
    sllm("backfill")
    nowhere = str(tmp_path / "none" / "report.html")
    assert "none/report.html: No such file" in refused(sllm, "verify", "--html", nowhere)
    sllm("verify")
    there = tmp_path / "old.bin"
    there.write_bytes(b"kept")
    said = refused(sllm, "contract", "--yes", "--archive", str(there))
    assert "old.bin: File exists" in said
    assert there.read_bytes() == b"kept"
    assert app.value("select count(embedding) from documents") == 20


def test_the_database_goes_away_in_the_middle(
    sllm: Call, app: App, server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its patience the backfill ends with a sentence, and the next run finishes it."""
    sllm("upgrade")
    app.fill(60)
    monkeypatch.setattr(job, "PATIENCE_SECONDS", 0.5)
    name = psycopg.conninfo.conninfo_to_dict(app.dsn)["dbname"]

    def allow(state: str) -> None:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(f"alter database {name} allow_connections {state}".encode())
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name]
            )

    app.embedders["local"].before = lambda texts: allow("false")
    try:
        said = refused(sllm, "backfill", "--batch", "20")
    finally:
        app.embedders["local"].before = lambda texts: None
        allow("true")
    assert "The database" in said
    sllm("backfill")
    assert "missing 0" in sllm("status").output


def test_a_wrong_key_stops_the_backfill(sllm: Call, app: App) -> None:
    sllm("upgrade")
    app.fill(5)

    def fail(texts: list[str]) -> None:
        raise Refusal(401)

    app.embedders["local"].before = fail
    assert "The embedding provider failed: status 401." in refused(sllm, "backfill")


def test_a_role_that_may_not_migrate(sllm: Call, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app.rows("create role stranger login")
    try:
        app.rows("create table documents (id bigint primary key, content text)")
        monkeypatch.setenv("DATABASE_URL", app.dsn.replace("postgres@", "stranger@"))
        said = refused(sllm, "upgrade")
        assert "may not create the schema 'sllm'" in said
        assert "CREATE SCHEMA" in said
    finally:
        app.rows("drop owned by stranger")
        app.rows("drop role stranger")


@pytest.mark.parametrize(
    "url",
    [
        "postgres:/localhost",
        "postgresql://u:secret@[::1/none",
        "postgresql://u@127.0.0.1:99999/none",
        "just words",
        "postgresql+psycopg://u@127.0.0.1:1/none",
    ],
)
def test_an_address_that_cannot_be_used(
    sllm: Call, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    for command in ("adopt", "status", "upgrade", "backfill"):
        said = refused(sllm, command)
        assert "DATABASE_URL" in said
        assert "secret" not in said


@pytest.fixture
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """PostgreSQL without pgvector: a server that looks for extensions in an empty folder."""
    folder = tmp_path_factory.mktemp("bare")
    for part in (folder, *folder.parents[:2]):
        part.chmod(0o755)
    empty = {"extension_control_path": str(folder)}
    with Cluster(folder / "pg", version=18, durable=False, settings=empty) as cluster:
        yield cluster.url()


def test_a_server_without_pgvector(sllm: Call, bare: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", bare)
    assert "no pgvector" in refused(sllm, "upgrade")
    assert "no pgvector" in refused(sllm, "plan")
    assert "sllm db upgrade" in refused(sllm, "status")


def test_a_folder_that_cannot_hold_the_embedded_server(
    sllm: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMBEDDED_DATABASE_DIR", str(tmp_path / "file"))
    assert "EMBEDDED_DATABASE_DIR" in refused(sllm, "status")


def test_a_schema_name_that_needs_quotes(sllm: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECTOR_SCHEMA", "My Schema")
    assert "VECTOR_SCHEMA" in refused(sllm, "status")
