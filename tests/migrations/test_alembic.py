"""`alembic` itself on our environment, beside an app's own Alembic, under roles with few rights."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.config import CommandLine, Config

from migrations import runner
from provider.errors import ConfigurationError
from tests.migrations.test_backfill import backfill, wrong_vectors
from tests.vectors.postgres import App, text_of

Alembic = Callable[..., str]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def alembic(sllm: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Alembic:
    """Run the command; what it printed. With `code` it is expected to fail."""
    monkeypatch.chdir(ROOT)

    def call(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        line, said = CommandLine(prog="alembic"), io.StringIO()
        options = line.parser.parse_args(arguments)
        config = Config(
            toml_file=ROOT / "pyproject.toml", output_buffer=said, stdout=said, cmd_opts=options
        )
        with pytest.raises(SystemExit) if code else contextlib.nullcontext():
            line.run_cmd(config, options)
        return said.getvalue() + str(capsys.readouterr().out)

    return call


def test_up_and_down_by_hand(app: App, alembic: Alembic) -> None:
    assert alembic("current") == ""
    assert app.value("select to_regnamespace('sllm')") is None, "looking changed the database"
    alembic("upgrade", "0003")
    assert alembic("current").strip() == "0003"
    said = alembic("upgrade", "head", code=1)
    assert "FAILED: Contract (0004) drops the column" in said
    assert alembic("current").strip() == "0003"
    alembic("downgrade", "-1")
    assert alembic("current").strip() == "0002"
    app.fill(3)
    assert "FAILED: Refused: the space local_" in alembic("upgrade", "+1", code=1)
    alembic("downgrade", "0001")
    assert "Repeat with force" in alembic("downgrade", "base", code=1)
    alembic("-x", "force=yes", "downgrade", "base")
    assert app.value("select to_regclass('documents')") is None


def test_looking_needs_no_embedder_and_neither_does_the_sql(app: App, alembic: Alembic) -> None:
    alembic("current")
    script = alembic("upgrade", "0003", "--sql")
    assert sum(model.embedded for model in app.embedders.values()) == 0
    build = script.index("CREATE INDEX CONCURRENTLY")
    assert script.rindex("SET lock_timeout = 0", 0, build) > script.rindex("BEGIN", 0, build) - 400
    assert "(768)" in script or ", 768, " in script


def test_another_migration_under_way_is_waited_for(app: App, alembic: Alembic) -> None:
    """`alembic upgrade` on two replicas: the second does not run into the first."""
    with runner.alone(app.target().database, "sllm", 1.0):  # type: ignore[arg-type]
        assert alembic("current") == ""  # who only looks does not wait
        with pytest.raises(ConfigurationError, match="Another process is migrating"):
            runner.upgrade(app.target(), "0001", patience=0.3)


def test_an_apps_own_version_table_is_left_alone(
    app: App, make_app: Callable[..., App], alembic: Alembic
) -> None:
    app.rows("create table alembic_version (version_num varchar(32) primary key)")
    app.rows("insert into alembic_version values ('0001')")
    with pytest.raises(ConfigurationError, match=r"VECTOR_SCHEMA='public' cannot be used"):
        make_app(vector_schema="public").upgrade()
    app.upgrade(runner.INDEXED)
    assert app.rows("select * from alembic_version") == [("0001",)]
    assert alembic("current").strip() == "0003"
    app.rows("create schema theirs create table alembic_version (version_num text)")
    app.rows("insert into theirs.alembic_version values ('abc123')")
    with pytest.raises(ConfigurationError, match=r"is at 'abc123', which is none of 0001, 0002"):
        make_app(vector_schema="theirs").upgrade()


def test_a_role_without_rights_is_told_what_a_superuser_has_to_run(app: App) -> None:
    app.rows("drop extension vector")
    app.rows("drop role if exists sllm_weak")
    app.rows("create role sllm_weak login")
    app.rows("create table documents (id bigint primary key, content text)")
    app.rows("alter table documents owner to sllm_weak")
    app.rows("insert into documents values (1, 'one'), (2, 'two')")
    weak = App(app.dsn.replace("postgres@", "sllm_weak@"), vector_embedding_column="")
    try:
        with pytest.raises(ConfigurationError, match="may not create the extension") as refused:
            weak.upgrade()
        said = str(refused.value)
        with psycopg.connect(app.dsn, autocommit=True) as superuser:
            for statement in said.split("run there: ")[1].split(" Then")[0].split("; "):
                superuser.execute(statement.encode())
        weak.upgrade()
        weak.embedders = app.embedders
        assert backfill(weak).readiness.ready
        assert wrong_vectors(weak)["missing"] == 0
    finally:
        app.rows("drop schema if exists sllm cascade")
        app.rows("drop table documents")
        app.rows("drop owned by sllm_weak")
        app.rows("drop role sllm_weak")


def test_names_that_need_quotes(app: App, make_app: Callable[..., App]) -> None:
    table = '"내 스키마"."Documents: 문서"'
    app.rows('create schema "내 스키마"')
    app.rows(
        'create table "내 스키마"."Documents: 문서" ("Order" bigint primary key generated always '
        'as identity, "select" text, "본문" text, "embedding 512" vector(512), "user" jsonb)'
    )
    add = 'insert into "내 스키마"."Documents: 문서" ("select", "본문") values (%s, %s)'
    app.rows(add, "제목", "가나다")
    quoted = make_app(
        vector_table=table,
        vector_id_column="Order",
        vector_text_columns=["select", "본문"],
        vector_embedding_column="embedding 512",
        vector_metadata_column="user",
    )
    quoted.upgrade()
    app.rows(add, "title", "라마바")
    app.rows('update "내 스키마"."Documents: 문서" set "본문" = \'바뀜\' where "Order" = 1')
    done = backfill(quoted, index=True)
    assert done.readiness.ready
    assert done.indexed
    app.rows('delete from "내 스키마"."Documents: 문서" where "Order" = 1')
    side = "sllm.vectors_local_kosimcse_roberta_768"
    assert app.rows("select row_id from " + side) == [(2,)]
    runner.downgrade(quoted.target(force=True), "base")
    assert app.value('select count(*) from "내 스키마"."Documents: 문서"') == 1


def test_a_project_without_documents_has_its_index_at_once(app: App, sllm: Any) -> None:
    """The index is built on nothing; rows that come later are found through it."""
    assert sllm("upgrade").output == "up to date\n"
    app.rows("insert into documents (content) values (%s), (%s)", text_of(1), text_of(2))
    assert "2 entries, 2 embedded" in sllm("sync", "-s", "local").output
    app.fill(200, start=3)
    sllm("sync", "-s", "local")
    report = sllm("verify", "--queries", "20").output
    assert "a valid index" in report
    assert "recall@10 mean 1.0000" in report
    assert report.rstrip().endswith("SAFE TO SWITCH to local_kosimcse_roberta_768")
    assert sllm("upgrade").output == "up to date\n"
