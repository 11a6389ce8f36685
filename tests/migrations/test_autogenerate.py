"""An app with an Alembic of its own in the same database: neither wants the other's tables gone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from migrations import runner
from provider.vectors.autogenerate import include_name
from tests.migrations.test_backfill import backfill
from tests.vectors.postgres import App

ENV = """
from alembic import context
from pgvector.sqlalchemy import Vector
from sqlalchemy import BigInteger, Column, MetaData, Table, Text, create_engine, pool, text
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()
Table("documents", metadata, Column("id", BigInteger, primary_key=True),
      Column("content", Text, nullable=False), Column("metadata", JSONB),
      Column("embedding", Vector(512)))
url = context.config.get_main_option("sqlalchemy.url")
engine = create_engine(url, poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata,
                      **context.config.attributes["options"])
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
"""


@pytest.fixture
def theirs(app: App, tmp_path: Path) -> Config:
    """The app's own project: its table made by its own first revision."""
    app.rows(
        "create table documents (id bigserial primary key, content text not null, "
        "metadata jsonb, embedding vector(512))"
    )
    folder = tmp_path / "alembic"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENV)
    (folder / "script.py.mako").write_text(
        (Path(runner.__file__).parent / "script.py.mako").read_text()
    )
    (folder / "versions" / "one.py").write_text(
        "revision, down_revision = 'a1b2c3', None\n\ndef upgrade(): pass\n"
    )
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    url = app.dsn.replace("postgresql://", "postgresql+psycopg://")
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    config.attributes["options"] = {}
    command.upgrade(config, "head")
    return config


def wants(config: Config, **options: Any) -> str:
    """What `alembic check` would change; empty when nothing."""
    config.attributes["options"] = options
    try:
        command.check(config)
    except CommandError as error:
        return str(error)
    return ""


def test_an_apps_autogenerate_leaves_our_tables_alone(app: App, theirs: Config) -> None:
    assert wants(theirs) == ""
    app.upgrade()
    app.fill(3)
    backfill(app, index=True)
    assert wants(theirs) == "", "with one schema there is nothing of ours to see"
    assert "remove_table" in wants(theirs, include_schemas=True), "so the hook is needed"
    assert wants(theirs, include_schemas=True, include_name=include_name) == ""
    assert app.value("select version_num from public.alembic_version") == "a1b2c3"
    assert app.value("select version_num from sllm.alembic_version") == "0003"


def test_their_revision_is_written_without_ours(app: App, theirs: Config, tmp_path: Path) -> None:
    app.upgrade(runner.INDEXED)
    app.rows("alter table documents drop column metadata")
    theirs.attributes["options"] = {"include_schemas": True, "include_name": include_name}
    command.revision(theirs, "add it", autogenerate=True)
    (made,) = (tmp_path / "alembic" / "versions").glob("*add_it.py")
    written = made.read_text()
    assert "op.add_column('documents'" in written
    assert "sllm" not in written
    assert "drop" not in written.split("def downgrade")[0]


def test_the_schema_of_the_settings_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECTOR_SCHEMA", "vectors")
    assert not include_name("vectors", "schema", {})
    assert include_name("sllm", "schema", {})
    assert include_name(None, "schema", {}), "Alembic's name for the default schema"
    assert include_name("documents", "table", {"schema_name": None})
    assert not include_name("queue", "table", {"schema_name": "vectors"})
