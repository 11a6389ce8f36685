"""The revisions on a real PostgreSQL: up, down, up again, on tables of all kinds."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from migrations import contract, registry, runner
from migrations.adopt import adopt
from migrations.verify.run import Options, verify
from provider.errors import ConfigurationError
from provider.vectors import VectorStore, binaries, catalog
from provider.vectors.database import Database
from provider.vectors.flow import run
from tests.migrations.test_backfill import backfill, job_of, prepared, wrong_vectors
from tests.vectors.embedders import BagOfWords
from tests.vectors.postgres import App, text_of


def ours(app: App) -> list[str]:
    """Every table, function, trigger and index of ours that is in the database."""
    rows = app.rows(
        "select relname from pg_class where relnamespace = 'sllm'::regnamespace union all "
        "select proname from pg_proc where pronamespace = 'sllm'::regnamespace union all "
        "select tgname from pg_trigger where tgname like 'zz_%%' order by 1"
    )
    return [row[0] for row in rows]


def test_up_and_down_and_up_again(app: App) -> None:
    app.upgrade(runner.INDEXED)
    assert app.value("select version_num from sllm.alembic_version") == "0003"
    spaces = app.rows("select name, storage, dimensions, state from sllm.embedding_spaces")
    assert spaces == [
        ("openai_text_embedding_3_small_512", "app_column", 512, "ready"),
        ("local_kosimcse_roberta_768", "side_table", 768, "filling"),
    ]
    first = ours(app)
    runner.downgrade(app.target(), "0001")
    assert ours(app) == ["alembic_version", "alembic_version_pkc"]
    assert app.value("select to_regclass('documents') is not null")
    runner.downgrade(app.target(), "base")
    assert app.value("select to_regclass('documents') is null")
    app.upgrade(runner.INDEXED)
    assert ours(app) == first


def test_an_adopted_table_is_never_dropped(app: App) -> None:
    app.rows("create table documents (id bigint primary key, content text, embedding vector(512))")
    app.upgrade(runner.INDEXED)
    runner.downgrade(app.target(), "base")
    assert app.value("select to_regclass('documents') is not null")


HOSTILE = '"app data"."Docs ""Ä"" 文: $1"'


@pytest.mark.parametrize(
    ("key_type", "keys"),
    [
        ("bigint", list(range(1, 41))),
        ("integer", list(range(1, 41))),
        ("uuid", [uuid.UUID(int=n * 7919) for n in range(40)]),
        ("text", [f"key '{n}' \\ ü" for n in range(40)]),
        ("character varying(30)", [f"k{n}" for n in range(40)]),
    ],
)
def test_keys_and_names_of_all_kinds(
    make_app: Callable[..., App], key_type: str, keys: list[Any]
) -> None:
    app = make_app(
        vector_table='app data.Docs "Ä" 文: $1',
        vector_id_column="the id: x",
        vector_text_columns=["title", "long text"],
        vector_embedding_column="vec tor",
    )
    app.rows('create schema "app data"')
    app.rows(
        f'create table {HOSTILE} ("the id: x" {key_type} primary key, title text, '
        '"long text" text, "vec tor" vector(512), changed int default 0)'
    )
    model = app.embedders["openai"]
    with app.connect() as connection:
        for number, key in enumerate(keys):
            text = f"title {number}\n{text_of(number)}"
            vector = str(model.vector(text).tolist())
            connection.execute(
                f"insert into {HOSTILE} values (%s, %s, %s, %s::vector)",
                [key, f"title {number}", text_of(number), vector],
            )
    before = app.value(f"select md5(string_agg(\"vec tor\"::text, '')) from {HOSTILE}")
    app.upgrade(runner.EXPANDED)
    done = backfill(app, index=True)
    assert done.readiness.ready
    app.rows(f"update {HOSTILE} set changed = 1")
    app.rows(f'update {HOSTILE} set title = null where "the id: x" = %s', keys[3])
    app.rows(f'delete from {HOSTILE} where "the id: x" = %s', keys[4])
    backfill(app)
    settings = app.settings(embedding_provider="local")
    with VectorStore(settings, make=app.make, pool_size=1) as store:
        hits = store.search(f"title 7\n{text_of(7)}", k=40, filter={"changed": 1})
        assert hits[0].id == keys[7]
        assert hits[0].distance == pytest.approx(0, abs=1e-6)
        assert len(hits) == 39
        assert store.update(keys[8], {"title": "submarine"})
        assert store.search("submarine", k=1)[0].id == keys[8]
    runner.downgrade(app.target(force=True), "base")
    assert ours(app) == ["alembic_version", "alembic_version_pkc"]
    kept = f"select md5(string_agg(\"vec tor\"::text, '')) from {HOSTILE} where changed = 2"
    assert app.value(kept) is None
    assert before is not None


@pytest.mark.parametrize(
    ("width", "element"), [(768, "vector"), (1024, "vector"), (1536, "vector"), (3072, "halfvec")]
)
def test_widths_and_types(make_app: Callable[..., App], width: int, element: str) -> None:
    app = make_app(vector_type=element)
    app.embedders["local"] = BagOfWords(width, seed=3)
    prepared(app, 30)
    assert backfill(app, index=True).readiness.ready
    types = (
        "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = %s::regclass"
    )
    space = job_of(app).space
    assert space.dimensions == width
    relation = f"sllm.{space.relation}"
    assert (f"{element}({width})",) in app.rows(types, relation)
    settings = app.settings(embedding_provider="local")
    with VectorStore(settings, make=app.make, pool_size=1) as store:
        assert store.search(text_of(7), k=1)[0].row["content"] == text_of(7)


def test_a_width_that_cannot_be_indexed_is_refused(app: App) -> None:
    app.embedders["local"] = BagOfWords(3072)
    with pytest.raises(ConfigurationError, match=r"up to 2000 dimensions.*VECTOR_TYPE=halfvec"):
        app.upgrade()


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_metrics(make_app: Callable[..., App], metric: str) -> None:
    app = make_app(vector_metric=metric)
    app.upgrade(runner.INDEXED)
    settings = app.settings(embedding_provider="local")
    with VectorStore(settings, make=app.make, pool_size=1) as store:
        store.add([text_of(n) for n in range(20)])
        for mode in ("index", "exact"):
            assert store.search(text_of(7), k=1, mode=mode)[0].row["content"] == text_of(7)


def test_a_key_of_two_columns_is_refused(app: App) -> None:
    app.rows(
        "create table documents (id bigint, part int, content text, embedding vector(512), "
        "primary key (id, part))"
    )
    with pytest.raises(ConfigurationError, match="keys of several columns are not supported"):
        app.upgrade()


def test_a_misspelt_column_is_named(make_app: Callable[..., App]) -> None:
    app = make_app(vector_text_columns=["contents"])
    app.rows("create table documents (id bigint primary key, content text)")
    with pytest.raises(ConfigurationError, match=r"VECTOR_TEXT_COLUMNS='contents'.*'content'"):
        app.upgrade()


def test_the_index_waits_for_the_backfill(app: App) -> None:
    prepared(app, 50)
    with pytest.raises(ConfigurationError, match=r"lacks 50 rows\. Run the backfill first"):
        registry.index(app.target())
    assert app.value("select version_num from sllm.alembic_version") == "0002"


def test_a_downgrade_that_loses_vectors_is_refused(app: App) -> None:
    prepared(app, 20)
    backfill(app)
    app.rows("update documents set embedding = null where id = 3")
    with pytest.raises(ConfigurationError, match="only vector in vectors_local"):
        runner.downgrade(app.target(), "0001")
    backfill(app, "openai")
    runner.downgrade(app.target(), "0001")
    assert app.value("select count(embedding) from documents") == 20


def test_the_sql_for_a_dba_does_the_same(app: App) -> None:
    target = type(app.target()).of(app.settings(database_url=None), make=app.make, offline=True)
    script = runner.sql(target, runner.INDEXED)
    assert "SET lock_timeout = '200ms'" in script
    assert "CREATE INDEX CONCURRENTLY" in script
    psql = binaries.find(18) / "bin" / "psql"
    subprocess.run(
        [psql, "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", app.dsn],
        input=script.encode(),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    assert app.value("select version_num from sllm.alembic_version") == "0003"
    by_hand = ours(app)
    runner.downgrade(app.target(), "base")
    app.upgrade(runner.INDEXED)
    assert ours(app) == by_hand


def test_a_model_that_comes_later_gets_a_space_of_its_own(app: App) -> None:
    prepared(app, 40)
    backfill(app, index=True)
    app.values["local_embedding_model"] = "intfloat/multilingual-e5-large"
    app.embedders["local"] = BagOfWords(1024, seed=5)
    assert registry.register(app.target()) == ["local_multilingual_e5_large_1024"]
    with pytest.raises(ConfigurationError, match="'local' is ambiguous"):
        job_of(app, "local")
    assert backfill(app, "local_multilingual_e5_large_1024", index=True).readiness.ready
    settings = app.settings(embedding_provider="local")
    with VectorStore(settings, make=app.make, pool_size=1) as store:
        assert store.space.dimensions == 1024
        assert store.search(text_of(7), k=1)[0].row["content"] == text_of(7)


def test_contract_drops_the_column_only_when_nothing_is_lost(app: App) -> None:
    prepared(app, 60)

    def drop(**options: Any) -> None:
        contract.contract_column(app.target(**options))

    backfill(app, index=True)
    with pytest.raises(ConfigurationError, match="contract --yes"):
        drop()
    with pytest.raises(ConfigurationError, match="no other space was verified"):
        drop(contract_confirmed=True)
    verify(app.settings(), "local", Options(queries=3, again=3), make=app.make)
    app.rows("delete from sllm.vectors_local_kosimcse_roberta_768 where row_id = 1")
    with pytest.raises(ConfigurationError, match="lacks 1 rows"):
        drop(contract_confirmed=True)
    backfill(app)
    VectorStore(app.settings(), make=app.make).open().close()
    with pytest.raises(ConfigurationError, match="a process used the space"):
        drop(contract_confirmed=True)
    drop(contract_confirmed=True, force=True)
    assert (
        app.rows(
            "select attname from pg_attribute where attrelid = 'documents'::regclass "
            "and attname = 'embedding' and not attisdropped"
        )
        == []
    )
    settings = app.settings(embedding_provider="local")
    with VectorStore(settings, make=app.make, pool_size=1) as store:
        ids = store.add(["after the contract"])
        app.rows("update documents set content = 'changed' where id = %s", ids[0])
    backfill(app)
    assert wrong_vectors(app)["wrong"] == 0
    with pytest.raises(Exception, match="cannot be undone"):
        runner.downgrade(app.target(), "0003")


def test_a_side_table_is_retired_and_can_come_back(app: App, tmp_path: Any) -> None:
    prepared(app, 40)
    backfill(app, index=True)
    space = job_of(app).space
    size = contract.archive(app.target(), space, tmp_path / "vectors.bin")
    assert size > 40 * 768 * 4
    contract.retire(app.target(), space)
    assert app.value("select to_regclass('sllm.vectors_local_kosimcse_roberta_768')") is None
    app.rows("update documents set content = 'changed' where id = 3")
    assert registry.register(app.target()) == ["local_kosimcse_roberta_768"]
    assert backfill(app, index=True).readiness.ready
    assert wrong_vectors(app)["missing"] == 0


def test_the_only_complete_space_cannot_be_retired(app: App) -> None:
    prepared(app, 10)
    backfill(app)
    app.rows("update documents set embedding = null")
    with pytest.raises(ConfigurationError, match="no other space is complete"):
        contract.retire(app.target(), job_of(app).space, force=True)


def test_adopt_proposes_the_settings(app: App) -> None:
    app.rows("create schema shop")
    app.rows(
        "create table shop.products (sku uuid primary key, name text, description text, "
        "attributes jsonb, vec vector(512) not null)"
    )
    app.rows("create index on shop.products using hnsw (vec vector_cosine_ops)")
    app.rows(
        "insert into shop.products select gen_random_uuid(), 'n', repeat('long ', 20), '{}', "
        "array_fill(0.1, array[512])::vector from generate_series(1, 20)"
    )
    app.upgrade(runner.EXPANDED)
    with Database(app.settings()).connect() as connection:
        found = {c.table: c for c in adopt(connection, "sllm")}
    assert set(found) == {"products", "documents"}
    assert found["products"].settings == {
        "VECTOR_TABLE": "shop.products",
        "VECTOR_ID_COLUMN": "sku",
        "VECTOR_TEXT_COLUMNS": "description",
        "VECTOR_METADATA_COLUMN": "attributes",
        "VECTOR_EMBEDDING_COLUMN": "vec",
        "OPENAI_EMBEDDING_DIMENSIONS": "512",
    }
    lines = "\n".join(found["products"].lines())
    assert "USING hnsw" in lines
    assert "NOT NULL" in lines
    assert "other text columns: name" in lines


def test_adopt_does_not_take_a_key_for_the_text(app: App) -> None:
    """LangChain's PGVector: ids are text, and longer than short documents."""
    app.rows(
        "create table langchain_pg_embedding (id varchar primary key, collection_id uuid, "
        "embedding vector(512), document varchar, cmetadata jsonb)"
    )
    app.rows(
        "insert into langchain_pg_embedding (id, document) "
        "select gen_random_uuid()::text, 'short' from generate_series(1, 5)"
    )
    with Database(app.settings()).connect() as connection:
        found = {c.table: c for c in adopt(connection, "sllm")}["langchain_pg_embedding"]
    assert found.settings["VECTOR_ID_COLUMN"] == "id"
    assert found.settings["VECTOR_TEXT_COLUMNS"] == "document"
    assert found.settings["VECTOR_METADATA_COLUMN"] == "cmetadata"
    assert not found.warnings


def test_apps_with_their_own_sql_ask_for_the_nearest(app: App) -> None:
    prepared(app, 30)
    backfill(app)
    query = str(app.embedders["local"].vector(text_of(7)).tolist())
    statement = (
        "select d.content from documents d join sllm.nearest(%s::vector, 3) n using (id) "
        "order by n.distance"
    )
    with app.connect() as connection:
        connection.execute("set sllm.space = 'local_kosimcse_roberta_768'")
        rows = connection.execute(statement, [query]).fetchall()
        assert rows[0] == (text_of(7),)
        assert len(rows) == 3
        with pytest.raises(Exception, match=r"the query has 3 dimensions, the space .* has 768"):
            connection.execute(statement, ["[1,2,3]"])
    with app.connect() as connection, pytest.raises(Exception, match="there is no space"):
        connection.execute(statement, [query])
    own = str(app.embedders["openai"].vector(text_of(7)).tolist())
    with app.connect() as connection:
        connection.execute("set sllm.space = 'openai_text_embedding_3_small_512'")
        assert connection.execute(statement, [own]).fetchall()[0] == (text_of(7),)


def test_settings_that_name_another_table_are_refused(app: App) -> None:
    app.upgrade(runner.EXPANDED)
    app.rows("create table other (id bigint primary key, content text)")
    settings = app.settings(vector_table="other")
    with (
        Database(settings).connect() as connection,
        pytest.raises(ConfigurationError, match="a VECTOR_SCHEMA of its own"),
    ):
        run(connection, catalog.load(settings))
