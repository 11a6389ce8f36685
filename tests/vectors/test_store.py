"""The store on a real PostgreSQL: write, search, filter, in either space, sync and async."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from migrations import runner
from provider.errors import ConfigurationError, InvalidRequest
from provider.overrides import Overrides
from provider.vectors import AsyncVectorStore, VectorStore
from provider.vectors.mirror import drainer
from provider.vectors.spaces import PROBE
from tests.vectors.embedders import BagOfWords
from tests.vectors.postgres import App, text_of


def store_of(app: App, provider: str, **values: Any) -> VectorStore:
    settings = app.settings(embedding_provider=provider, **values)
    return VectorStore(settings, make=app.make, pool_size=2)


@pytest.mark.parametrize("provider", ["openai", "local"])
def test_add_search_update_delete(app: App, provider: str) -> None:
    app.upgrade(runner.INDEXED)
    with store_of(app, provider) as store:
        ids = store.add([text_of(n) for n in range(20)])
        assert ids == sorted(ids)
        hit = store.search(text_of(7), k=3)[0]
        assert hit.id == ids[7]
        assert hit.distance == pytest.approx(0, abs=1e-6)
        assert hit.row["content"] == text_of(7)
        assert "embedding" not in hit.row

        assert store.update(ids[7], {"content": "a submarine under the ice"})
        assert store.search("submarine ice", k=1)[0].id == ids[7]
        assert store.search(text_of(7), k=1)[0].id != ids[7]
        assert not store.update(10**9, {"content": "nobody"})

        assert store.delete([ids[7], 10**9]) == 1
        assert store.search("submarine ice", k=1)[0].id != ids[7]
        assert len(store.search("room", k=100)) == 19


async def test_the_asynchronous_face_does_the_same(app: App) -> None:
    app.upgrade(runner.INDEXED)
    settings = app.settings(embedding_provider="local")
    async with AsyncVectorStore(settings, make=app.make, pool_size=2) as store:
        ids = await store.add([text_of(n) for n in range(10)])
        hits = await asyncio.gather(*(store.search(text_of(n), k=1) for n in range(10)))
        assert [found[0].id for found in hits] == ids
        assert await store.update(ids[0], {"content": "a submarine under the ice"})
        assert (await store.search("submarine", k=1))[0].id == ids[0]
        assert await store.delete(ids) == 10
        assert await store.search("submarine", k=1) == []


def test_only_the_other_space_is_queued_for_what_the_store_wrote(app: App) -> None:
    app.upgrade(runner.INDEXED)
    with store_of(app, "local") as store:
        store.add([text_of(n) for n in range(3)])
    queued = app.rows(
        "select s.provider, count(*) from sllm.queue q join sllm.embedding_spaces s "
        "on s.id = q.space_id group by 1"
    )
    assert queued == [("openai", 3)]


def test_sync_dual_write_leaves_no_queue(app: App) -> None:
    app.upgrade(runner.INDEXED)
    with store_of(app, "local", embedding_dual_write="sync") as store:
        ids = store.add([text_of(n) for n in range(3)])
        store.update(ids[0], {"content": "a submarine under the ice"})
        assert app.value("select count(*) from sllm.queue") == 0
    with store_of(app, "openai") as store:
        assert store.search("submarine", k=1)[0].id == ids[0]


def test_sync_dual_write_survives_an_outage_of_the_other_side(app: App) -> None:
    app.upgrade(runner.INDEXED)

    def fail(texts: list[str]) -> None:
        raise ConnectionError("no route")

    with store_of(app, "local", embedding_dual_write="sync") as store:
        app.embedders["openai"].before = fail
        store.add([text_of(n) for n in range(3)])
    assert app.value("select count(*) from sllm.queue") == 3


def test_dual_write_off_catches_up_when_somebody_comes_back(app: App) -> None:
    """Or is refused with the number of rows, while the other side cannot embed them."""
    app.upgrade(runner.INDEXED)
    with store_of(app, "local", embedding_dual_write="off") as store:
        ids = store.add([text_of(n) for n in range(3)])
    assert app.value("select count(*) from documents where embedding is not null") == 0

    def fail(texts: list[str]) -> None:
        if texts != [PROBE]:
            raise ConnectionError("no route")

    app.embedders["openai"].before = fail
    store = store_of(app, "openai", embedding_dual_write="off")
    with pytest.raises(ConfigurationError, match=r"lacks 3 .*rows|3 rows"):
        store.open()
    app.embedders["openai"].before = lambda texts: None
    with store_of(app, "openai", embedding_dual_write="off") as store:
        assert store.search(text_of(1), k=1)[0].id == ids[1]


def test_filters_on_metadata_and_columns(app: App) -> None:
    app.upgrade(runner.INDEXED)
    with store_of(app, "local") as store:
        rows = [
            {"content": text_of(n), "metadata": {"n": n, "parity": ("even", "odd")[n % 2]}}
            for n in range(30)
        ]
        ids = store.add(rows)

        def numbers(filter: dict[str, Any], mode: Any = "auto") -> list[int]:
            hits = store.search("room window", k=100, filter=filter, mode=mode)
            return sorted(hit.row["metadata"]["n"] for hit in hits)

        assert numbers({"parity": "odd", "n": {"lt": 6}}) == [1, 3, 5]
        assert numbers({"n": [2, 4, 99]}) == [2, 4]
        assert numbers({"n": {"gte": 28}}) == [28, 29]
        assert numbers({"n": {"ne": 0, "lte": 2}}) == [1, 2]
        assert numbers({"missing": {"exists": True}}) == []
        assert numbers({"id": ids[5]}) == [5]
        assert numbers({"id": {"in": ids[:2]}}) == [0, 1]
        assert numbers({"n": {"gt": "5"}}) == []
        assert numbers({"parity": "odd"}, "index") == list(range(1, 30, 2))
        with pytest.raises(InvalidRequest, match="no operator 'like'"):
            numbers({"n": {"like": "x"}})


def test_what_cannot_be_written_is_refused_before_it_is_embedded(app: App) -> None:
    app.upgrade(runner.INDEXED)
    with store_of(app, "local") as store:
        before = app.embedders["local"].embedded
        for documents, message in [
            ([" "], r"documents\[0\] has no text"),
            ([{"content": "x", "colour": "red"}], "no column 'colour'"),
            ([{"content": "x", "embedding": [1.0]}], "no column 'embedding'"),
        ]:
            with pytest.raises(InvalidRequest, match=message):
                store.add(documents)  # type: ignore[arg-type]
        assert app.embedders["local"].embedded == before


def test_a_model_of_the_same_width_is_refused(app: App) -> None:
    app.upgrade(runner.INDEXED)
    with store_of(app, "local") as store:
        store.add([text_of(1)])
    app.embedders["local"] = BagOfWords(768, seed=99)
    with pytest.raises(ConfigurationError, match="filled by another model"):
        store_of(app, "local").open()


def test_a_model_of_another_width_is_refused(app: App) -> None:
    app.upgrade(runner.INDEXED)
    app.embedders["local"] = BagOfWords(384, seed=2)
    with pytest.raises(ConfigurationError, match="768 dimensions, but its embedder gives 384"):
        store_of(app, "local").open()


def test_another_models_name_is_refused(app: App) -> None:
    app.upgrade(runner.INDEXED)
    with pytest.raises(ConfigurationError, match="no space of it; it has local_kosimcse"):
        store_of(app, "local", local_embedding_model="intfloat/multilingual-e5-base").open()


def test_a_flip_to_an_incomplete_space_is_refused_with_the_number(app: App) -> None:
    app.upgrade("0001")
    app.fill(25)
    app.upgrade(runner.EXPANDED)
    with pytest.raises(ConfigurationError, match="lacks 25 rows"):
        store_of(app, "local").open()
    with store_of(app, "local", embedding_on_incomplete="warn") as forced:
        assert forced.search("room", k=5) == []


def test_a_flip_embeds_what_was_written_a_moment_ago(app: App) -> None:
    app.upgrade(runner.INDEXED)
    with store_of(app, "openai") as store:
        ids = store.add([text_of(n) for n in range(40)])
    with store_of(app, "local") as store:
        assert store.search(text_of(11), k=1)[0].id == ids[11]


def test_a_store_follows_a_switch_at_run_time_and_refuses_an_incomplete_space(
    app: App, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "providers.json"
    overrides = Overrides(state, ["openai", "local"])
    app.upgrade("0001")
    app.fill(20)
    app.upgrade(runner.EXPANDED)
    with store_of(app, "openai", sllm_state_file=state) as store:
        overrides.set({"embedding": "local"}, "test")
        assert store.search(text_of(7), k=1)[0].row["content"] == text_of(7)
        assert store.space.provider == "openai"
        assert "lacks 20 rows" in caplog.text
        with drainer(app.settings(), "local", app.make) as opened:
            app.rows("update documents set content = content || '.'")
            opened.drain()
        store._try_again = 0.0
        assert store.search(text_of(7) + ".", k=1)[0].distance == pytest.approx(0, abs=1e-6)
        assert store.space.provider == "local"
        overrides.set({"embedding": None}, "test")
        store.search(text_of(7), k=1)
        assert store.space.provider == "openai"


def test_without_an_upgrade_the_way_out_is_named(app: App) -> None:
    with pytest.raises(ConfigurationError, match="sllm db upgrade"):
        store_of(app, "local").open()


@pytest.mark.parametrize("text", ["a\0b", "half \ud800"])
def test_a_text_that_no_database_can_hold_is_named(app: App, text: str) -> None:
    app.upgrade(runner.INDEXED)
    with store_of(app, "local") as store:
        (row_id,) = store.add(["kitchen"])
        for write in (lambda: store.add([text]), lambda: store.update(row_id, {"content": text})):
            with pytest.raises(InvalidRequest, match=r"documents.content cannot hold a NUL"):
                write()
