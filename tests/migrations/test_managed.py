"""Databases as companies and hosts keep them: the extension elsewhere, few rights, row-level
security, keys and columns of all kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from sqlalchemy.exc import ProgrammingError

from migrations import registry, runner
from migrations.plainly import sentence
from migrations.verify.run import Options, verify
from provider.errors import ConfigurationError, InvalidRequest
from provider.vectors import VectorStore
from provider.vectors.mirror import drainer
from tests.migrations.test_backfill import backfill
from tests.vectors.postgres import App

SIDE = "sllm.vectors_local_kosimcse_roberta_768"


def opened(app: App, **values: str) -> VectorStore:
    settings = app.settings(embedding_provider="local", **values)
    return VectorStore(settings, make=app.make, pool_size=2)


def name_of(app: App) -> str:
    return app.dsn.split("/")[3].split("?")[0]


def as_role(app: App, role: str, options: str = "") -> App:
    """The app under a role of its own, with what the driver hands to the server."""
    dsn = app.dsn.replace("postgres@", f"{role}@")
    return App(f"{dsn}&options={quote(options)}" if options else dsn, **app.values)


@pytest.fixture
def role(app: App) -> Iterator[str]:
    """A login role with no rights."""
    name = f"plain_{name_of(app)}"
    app.rows(f"create role {name} login")
    yield name
    app.rows(f"drop owned by {name} cascade; drop role {name}")


def documents(app: App, key: str = "bigint generated always as identity", more: str = "") -> None:
    app.rows(
        f"create table documents (id {key} primary key, {more} content text, metadata jsonb, "
        "embedding vector(512))"
    )


@pytest.mark.parametrize("path", ["", "''", "app", "app,extensions"])
def test_the_extension_has_a_schema_of_its_own(app: App, role: str, path: str) -> None:
    """As Supabase and Neon install it. What is on the search path makes no difference."""
    app.rows("drop extension vector; create schema extensions")
    app.rows(
        "create extension vector schema extensions; grant usage on schema extensions to public"
    )
    app.rows(f"revoke all on schema public from public; create schema app authorization {role}")
    app.rows(f"grant create on database {name_of(app)} to {role}")
    tenant = as_role(app, role, f"-csearch_path={path}" if path else "")
    tenant.values["vector_table"] = "app.documents"
    tenant.rows(
        "create table app.documents (id uuid primary key default gen_random_uuid(), content text, "
        "metadata jsonb default '{}', embedding extensions.vector(512))"
    )
    tenant.rows("insert into app.documents (content) select 'kitchen ' || generate_series(1, 40)")
    tenant.upgrade()
    assert backfill(tenant, index=True).readiness.ready
    with opened(tenant) as store:
        (added,) = store.add(["bright balcony"])
        assert store.search("bright balcony", k=1)[0].id == added
        assert store.search("kitchen 7", k=3, mode="exact", filter={"n": {"exists": False}})
        store.update(added, {"content": "quiet garage"})
    with drainer(tenant.settings(), "openai", tenant.make) as queue:
        assert queue.drain().embedded == 1
    report = verify(tenant.settings(), "local", Options(5, 5), make=tenant.make)
    assert report.safe, report.checks


def test_connections_leave_the_session_as_it_was(app: App) -> None:
    """Behind a pooler the session is somebody else's next."""
    app.rows("drop extension vector; create schema extensions")
    app.rows("create extension vector schema extensions")
    with app.target().database.connect() as connection:  # type: ignore[union-attr]
        assert connection.execute("show search_path").fetchone() == ('"$user", public',)
        row = connection.execute("select '[1,2]'::extensions.vector").fetchone()
        assert row is not None
        assert row[0].to_list() == [1.0, 2.0]


def test_a_dba_moves_the_extension(app: App, make_app: Callable[..., App]) -> None:
    """The app's writes go on, and a store that is opened afterwards finds everything."""
    app.upgrade()
    app.fill(5)
    app.rows("create schema extensions; alter extension vector set schema extensions")
    app.rows("update documents set content = 'moved house' where id = 1")
    app.rows("insert into documents (content) values ('a new one')")
    app.rows("delete from documents where id = 2")
    assert backfill(app, index=True).readiness.ready
    with opened(app) as store:
        assert store.search("moved house", k=1)[0].id == 1
    query = str(app.embedders["local"].vector("moved house").tolist())
    nearest = "select id from sllm.nearest(%s::extensions.vector, 1, %s)"
    assert app.value(nearest, query, SIDE.removeprefix("sllm.vectors_")) == 1


def test_a_table_without_a_schema_is_what_the_search_path_finds(
    app: App, make_app: Callable[..., App]
) -> None:
    app.rows("create schema app create table documents (id int primary key, content text)")
    app.rows("insert into app.documents values (1, 'one')")
    found = App(f"{app.dsn}&options={quote('-csearch_path=app,public')}")
    found.upgrade()
    assert app.value("select to_regclass('public.documents')") is None
    assert backfill(found).tally.embedded == 1
    with pytest.raises(ConfigurationError, match="VECTOR_SCHEMA='app' cannot be used"):
        App(found.dsn, vector_schema="app").target()


def test_a_table_that_is_made_goes_where_the_search_path_says(app: App) -> None:
    app.rows("drop extension vector; create schema app; create schema extensions")
    made = App(f"{app.dsn}&options={quote('-csearch_path=app')}")
    made.upgrade()
    assert made.value("select 'app.documents'::regclass is not null")
    extension = "select extnamespace::regnamespace::text from pg_extension where extname = 'vector'"
    assert made.value(extension) == "extensions"


KEYS = [
    ('text collate "C"', "'K' || n"),
    ("char(26)", "'01ARZ3NDEKTSV4RRFFQ69G5F' || n"),
    ("varchar(26)", "'v' || n"),
    ("doc_id", "'d' || n"),
    ("uuid", "md5(n::text)::uuid"),
    ("numeric", "n + 0.5"),
]


@pytest.mark.parametrize(("key", "value"), KEYS)
def test_keys_of_all_types(app: App, key: str, value: str) -> None:
    app.rows("create domain doc_id as text")
    documents(app, key)
    app.rows(
        f"insert into documents (id, content) select {value}, 'kitchen ' || n "
        "from generate_series(1, 30) n"
    )
    app.upgrade()
    assert backfill(app, index=True).readiness.ready
    app.rows("update documents set content = 'submarine' where content = 'kitchen 7'")
    app.rows("delete from documents where content = 'kitchen 8'")
    with drainer(app.settings(), "local", app.make) as queue:
        assert queue.drain().embedded == 1
    with opened(app) as store:
        hit = store.search("submarine", k=1)[0]
        assert hit.row["content"] == "submarine"
        assert store.update(hit.id, {"content": "helicopter"})
        assert store.search("helicopter", k=1)[0].id == hit.id
        assert store.delete([hit.id]) == 1
    assert app.value(f"select count(*) from {SIDE}") == 28
    assert verify(app.settings(), "local", Options(5, 5), make=app.make).safe


def test_a_key_with_a_collation_is_joined_through_its_index(app: App) -> None:
    documents(app, 'text collate "C"')
    app.upgrade()
    same = (
        "select attcollation::regcollation::text from pg_attribute "
        "where attrelid = %s::regclass and attname = %s"
    )
    columns = [(SIDE, "row_id"), ("sllm.queue", "row_id"), ("sllm.backfill_chunks", "first_id")]
    assert {app.value(same, table, column) for table, column in columns} == {'"C"'}


def test_changes_that_only_the_apps_own_triggers_make(app: App) -> None:
    documents(app, more="title text,")
    app.rows(
        "create function compose() returns trigger language plpgsql as $$ begin "
        "new.content := new.title || ' composed'; return new; end $$; create trigger compose "
        "before insert or update on documents for each row execute function compose()"
    )
    app.upgrade()
    app.rows("insert into documents (title) values ('one')")
    backfill(app)
    app.rows("update documents set title = 'two'")
    app.rows("update documents set metadata = '{}'")
    assert app.value("select count(*) from sllm.queue where space_id = 2") == 1


@pytest.mark.parametrize("kind", ["stored", "virtual"])
def test_a_text_that_the_database_computes(app: App, kind: str) -> None:
    if (
        kind == "virtual"
        and app.value("select current_setting('server_version_num')::int") < 180000
    ):
        pytest.skip("PostgreSQL 18 brought virtual columns")
    app.rows(
        "create table documents (id bigint primary key, title text, content text generated always "
        f"as (title || ' computed') {kind}, embedding vector(512))"
    )
    app.rows("insert into documents (id, title) values (1, 'one'), (2, 'two')")
    app.upgrade()
    backfill(app, index=True)
    app.rows("update documents set title = 'three' where id = 1")
    with drainer(app.settings(), "local", app.make) as queue:
        assert queue.drain().embedded == 1
    with opened(app) as store:
        assert store.search("three", k=1)[0].id == 1
        with pytest.raises(InvalidRequest, match="is computed by the database"):
            store.add([{"id": 3, "title": "x"}])
        with pytest.raises(InvalidRequest, match="no column 'content' to write"):
            store.update(1, {"content": "x"})


def test_values_of_types_that_the_driver_does_not_know(app: App) -> None:
    app.rows("create type mood as enum ('calm', 'loud')")
    documents(app, more="mood mood default 'calm', moods mood[],")
    app.upgrade()
    with opened(app) as store:
        store.add([{"content": "kitchen", "moods": ["calm", "loud"]}])
        row = store.search("kitchen", k=1)[0].row
        assert (row["mood"], row["moods"]) == ("calm", "{calm,loud}")


def test_a_partition_that_was_dropped_leaves_nothing_behind(app: App) -> None:
    app.rows(
        "create table documents (id bigint primary key, content text, embedding vector(512)) "
        "partition by range (id); create table old partition of documents for values from (0) to "
        "(10); create table new partition of documents for values from (10) to (20)"
    )
    app.rows("insert into documents select n, 'kitchen ' || n from generate_series(1, 15) n")
    app.upgrade()
    backfill(app, index=True)
    app.rows("update documents set content = 'bath' where id = 12; drop table old")
    assert backfill(app).readiness.ready
    assert app.value(f"select array_agg(row_id order by row_id) from {SIDE}") == [*range(10, 16)]


def test_row_level_security_goes_for_the_vectors_too(app: App, role: str) -> None:
    documents(app, more="tenant int default current_setting('app.tenant')::int,")
    app.rows(
        "insert into documents (tenant, content) select n %% 50, 'kitchen ' || n "
        "from generate_series(1, 2000) n"
    )
    app.rows("alter table documents enable row level security")
    app.rows("create policy own on documents using (tenant = current_setting('app.tenant')::int)")
    app.rows(f"grant select, insert, update, delete on documents to {role}")
    app.upgrade()
    assert backfill(app, index=True).readiness.ready
    seven = as_role(app, role, "-capp.tenant=7")
    seven.embedders = app.embedders
    with opened(seven) as store:
        for mode in ("auto", "index", "exact"):
            hits = store.search("kitchen 8", k=10, mode=mode)
            assert {hit.row["tenant"] for hit in hits} == {7}, mode
            assert len(hits) == 10, mode
        (added,) = store.add(["bright balcony"])
        assert store.search("bright balcony", k=1)[0].id == added
        store.update(added, {"content": "quiet garage"})
        store.delete([added])
    assert seven.value(f"select count(*) from {SIDE}") == 40, "other tenants' vectors are visible"
    query = str(app.embedders["local"].vector("kitchen 8").tolist())
    nearest = "select count(*) from sllm.nearest(%s::vector, 10, %s)"
    assert seven.value(nearest, query, SIDE.removeprefix("sllm.vectors_")) == 10


def test_a_role_that_does_not_see_every_row_may_not_migrate(app: App, role: str) -> None:
    """It would take every row that it does not see for one that was deleted."""
    app.upgrade()
    app.fill(5)
    backfill(app)
    app.rows("alter table documents enable row level security")
    app.rows(
        f"create policy odd on documents using (id %% 2 = 1); grant select on documents to {role}"
    )
    registry.register(app.target())
    hidden = as_role(app, role)
    with pytest.raises(ConfigurationError, match="Row-level security hides rows of documents"):
        hidden.target()
    with (
        pytest.raises(ConfigurationError, match="BYPASSRLS"),
        drainer(hidden.settings(), "local", app.make),
    ):
        pass
    with pytest.raises(ConfigurationError, match="BYPASSRLS"):
        verify(hidden.settings(), "local", make=app.make)


def test_rights_and_policies_that_came_later_are_taken_over_by_an_upgrade(
    app: App, role: str
) -> None:
    app.rows("alter default privileges revoke execute on functions from public")
    documents(app)
    app.upgrade(runner.INDEXED)
    app.rows(
        "alter table documents enable row level security; "
        "create policy all_rows on documents using (true)"
    )
    app.rows(f"grant select, insert on documents to {role}")
    registry.register(app.target())
    secured = "select relrowsecurity from pg_class where oid = %s::regclass"
    assert app.value(secured, SIDE)
    later = as_role(app, role)
    later.embedders = app.embedders
    with opened(later) as store:
        store.add(["kitchen"])
        assert store.search("kitchen", k=1)
    app.rows("alter table documents disable row level security")
    registry.register(app.target())
    assert not app.value(secured, SIDE)


def test_an_apps_role_waits_for_the_mirror(
    app: App, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not drain the queue: what is pending is reported, not a permission that is missing."""
    monkeypatch.setattr("provider.vectors.readiness.CATCH_UP_SECONDS", 0.5)
    documents(app)
    app.rows(f"grant select on documents to {role}")
    app.upgrade(runner.INDEXED)
    app.rows("insert into documents (content) values ('pending')")
    plain = as_role(app, role)
    plain.embedders = app.embedders
    with pytest.raises(ConfigurationError, match="lacks 1 rows"):
        opened(plain).open()


def test_a_role_that_may_not_create_the_extension(app: App, role: str) -> None:
    app.rows("drop extension vector")
    app.rows(f"grant create on database {name_of(app)} to {role}")
    app.rows(f"create schema app authorization {role}")
    weak = as_role(app, role, "-csearch_path=app")
    with pytest.raises(ProgrammingError, match="denied to create extension") as refused:
        weak.upgrade()
    said = sentence(refused.value)
    assert said is not None
    assert said.endswith("CREATE EXTENSION vector; then repeat it.")
