"""Both spaces stay alive: flips at any moment, fleets in two modes, outages of one side."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from migrations import runner
from provider.errors import ConfigurationError
from provider.switch_cli import switch
from provider.vectors import VectorStore, check_readiness, embedding
from provider.vectors.mirror import Mirror
from provider.vectors.spaces import PROBE
from tests.migrations.test_backfill import backfill, prepared, wrong_vectors
from tests.migrations.test_kills import wait_until
from tests.vectors.embedders import Refusal
from tests.vectors.postgres import App, text_of


def migrated(app: App, rows: int = 200) -> App:
    prepared(app, rows)
    backfill(app)
    app.upgrade(runner.INDEXED)
    return app


def flip(app: App, provider: str) -> VectorStore:
    settings = app.settings(embedding_provider=provider)
    return VectorStore(settings, make=app.make, pool_size=2)


def test_back_and_forth_without_embedding_anything_again(app: App) -> None:
    migrated(app)
    with flip(app, "local") as store:
        new = store.add([text_of(1000 + n) for n in range(10)])
    backfill(app, "openai")  # what the mirror does all the time
    hosted = app.embedders["openai"].embedded
    with flip(app, "openai") as store:
        assert store.search(text_of(1003), k=1)[0].id == new[3]
    assert app.embedders["openai"].embedded <= hosted + 2  # the probe and the query


def test_a_fleet_in_two_modes_with_an_outage_ends_exact(app: App) -> None:
    """Replicas of both modes write the same rows while one side's embedder comes and goes."""
    migrated(app)
    outage = threading.Event()

    def sometimes(texts: list[str]) -> None:
        if outage.is_set() and threading.current_thread().name.startswith("mirror"):
            raise ConnectionError("no route")

    app.embedders["openai"].before = sometimes
    mirrors = [
        Mirror(app.settings(), name, make=app.make, interval=0.01).start()
        for name in ("openai", "local")
    ]
    errors: list[BaseException] = []

    def replica(seed: int) -> None:
        choose = random.Random(seed)
        for turn in range(3):
            provider = ("openai", "local")[(seed + turn) % 2]
            settings = app.settings(embedding_provider=provider, embedding_on_incomplete="warn")
            with VectorStore(settings, make=app.make, pool_size=2) as store:
                for _ in range(25):
                    try:
                        operate(store, choose)
                    except psycopg.Error as error:
                        errors.append(error)
                if seed == 0:
                    (outage.set if turn == 0 else outage.clear)()

    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(replica, range(4)))
        outage.clear()
        wait_until(lambda: app.value("select count(*) from sllm.queue") == 0, 60)
    finally:
        for mirror in mirrors:
            mirror.stop()
    assert errors == []
    for provider in ("openai", "local"):
        counts = wrong_vectors(app, provider)
        assert (counts["missing"], counts["wrong"], counts["orphans"]) == (0, 0, 0), provider


def operate(store: VectorStore, choose: random.Random) -> None:
    row = choose.randrange(1, 200)
    action = choose.random()
    if action < 0.4:
        store.update(row, {"content": f"{text_of(row)} version {choose.random()}"})
    elif action < 0.7:
        store.add([text_of(choose.randrange(10**6))])
    elif action < 0.8:
        store.delete([row])
    else:
        assert len(store.search("room", k=5)) == 5


def test_without_a_mirror_a_flip_back_is_refused_with_the_number(app: App) -> None:
    migrated(app)

    def refuse(texts: list[str]) -> None:
        if texts != [PROBE]:
            raise Refusal(401)

    with flip(app, "local") as store:
        store.add([text_of(1000 + n) for n in range(10)])
    counted = check_readiness(app.settings(), "openai", make=app.make, catch_up=False)
    assert counted.missing == counted.pending == 10
    assert not counted.ready
    assert "lacks 10 rows" in counted.sentence()
    app.embedders["openai"].before = refuse
    with pytest.raises(ConfigurationError, match="lacks 10 rows"):
        flip(app, "openai").open()


def test_readiness_of_a_space_that_is_there(app: App) -> None:
    migrated(app)
    counted = check_readiness(app.settings(), "local", make=app.make)
    assert counted.ready
    assert counted.sentence() == ""
    assert counted.pending == 0


def test_sllm_switch_refuses_an_incomplete_space(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", app.dsn)
    monkeypatch.setenv("SLLM_STATE_FILE", str(tmp_path / "providers.json"))
    monkeypatch.setattr(embedding, "from_settings", lambda settings: app.make)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(switch, ["local", "--side", "embedding", *arguments])

    assert call().exit_code == 0  # a database that is none of ours
    prepared(app, 15)
    refused = call()
    assert refused.exit_code == 2
    assert "lacks 15 rows" in refused.output
    assert call("--force").exit_code == 0
    backfill(app)
    assert call().exit_code == 0
