"""512 to 768 dimensions under live reads and writes, and back: python -m migrations.demo

20,000 documents were written by an old app that talks to OpenAI (the strict stand-in, 512
dimensions, in its own pgvector column). Everything here is real: an embedded PostgreSQL, the local
demo embedder, an app under constant load in a process of its own.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import psycopg
from pydantic import SecretStr

from migrations import registry, runner
from migrations.backfill import Job
from migrations.demo.load import Config, text_of
from migrations.demo.timeline import Running, Timeline, load
from migrations.fill import fill
from migrations.status import status
from migrations.target import Target
from migrations.verify.report import terminal
from migrations.verify.run import Options, verify
from provider.settings import Settings
from provider.vectors import VectorStore, catalog, check_readiness
from provider.vectors.database import Database
from provider.vectors.embedded import Cluster
from provider.vectors.embedding import Embedder, from_settings
from provider.vectors.flow import run
from provider.vectors.mirror import Mirror

LANDMARK = "A lighthouse keeper's cottage with a spiral stair, 등대지기의 집."
_BATCH = 500


def embedder(name: str) -> Embedder:
    """The embedder of a provider, as the environment of this demo's processes describes it."""
    return from_settings(Settings())(name)


def old_app(url: str, rows: int) -> None:
    """The app of before: its table, its texts, OpenAI's vectors in its own column."""
    hosted = embedder("openai")
    with psycopg.connect(url) as connection:
        for start in range(0, rows, _BATCH):
            texts = [text_of(number) for number in range(start + 1, min(start + _BATCH, rows) + 1)]
            vectors = hosted.embed_texts(texts)
            with connection.cursor() as cursor:
                insert = "insert into documents (content, embedding) values (%s, %s::vector)"
                pairs = zip(texts, vectors, strict=True)
                cursor.executemany(insert, [(text, str(vector)) for text, vector in pairs])
        connection.commit()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("analyze documents")


def backfill(settings: Settings, target: Target) -> str:
    """The job, as `sllm db backfill` runs it."""
    database = Database(settings)
    with database.connect() as connection:
        found = run(connection, catalog.load(settings))
    job = Job(database, found.source, found.space("local"), embedder("local"))
    started = time.monotonic()
    done = fill(job, found, target, build_index=False)
    seconds, embedding = time.monotonic() - started, done.tally.embed_seconds
    return (
        f"{done.tally.rows:,} rows, {done.tally.rows / seconds:,.0f} a second; the embedder was at "
        f"work {embedding / seconds:.0%} of the time"
    )


def migrate(line: Timeline, settings: Settings, running: Running) -> None:
    """Every step, with the app's load on."""
    with line.phase("baseline: the old app alone"):
        threading.Event().wait(5)
    target = Target.of(settings)
    with line.phase("expand: side table, queue, triggers"):
        runner.upgrade(target, runner.EXPANDED)
    with line.phase("backfill"):
        line.say(f"           {backfill(settings, target)}")
    with line.phase("index, concurrently"):
        registry.index(target)
    mirrors = [Mirror(settings, name).start() for name in ("local", "openai")]
    with line.phase("verify"):
        report = verify(settings, "local", Options(queries=20, again=10))
        line.say(terminal(report))
    with line.phase("switch: EMBEDDING_PROVIDER=local"):
        running.mode(store="local")
        with store_of(settings, "local") as store:
            landmark = store.add([LANDMARK])[0]
        threading.Event().wait(5)
    with line.phase("switch back: EMBEDDING_PROVIDER=openai"):
        counted = check_readiness(settings, "openai")
        line.say(f"           {counted.missing} rows missing, {counted.pending} queued")
        running.mode(sql="embedding", provider="openai")
        threading.Event().wait(5)
    for mirror in mirrors:
        mirror.stop()
    found_on_both_sides(line, settings, landmark)


def found_on_both_sides(line: Timeline, settings: Settings, landmark: int) -> None:
    """What was written while the local side was active is found on both."""
    for provider in ("openai", "local"):
        with store_of(settings, provider) as store:
            hit = store.search(LANDMARK, k=1)[0]
            same = "found" if hit.id == landmark else f"NOT found, {hit.id} instead"
            line.say(f"           {provider}: the document written on the local side is {same}")


def store_of(settings: Settings, provider: str) -> VectorStore:
    return VectorStore(Settings(**{**settings.model_dump(), "embedding_provider": provider}))


@contextmanager
def stage(rows: int, model: str) -> Iterator[tuple[str, Settings]]:
    """A database of the demo's own, and the stand-in, set in the environment of its processes."""
    from tests.standin import serve

    with ExitStack() as stack:
        standin = stack.enter_context(serve())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        cluster = stack.enter_context(Cluster(folder / "pg"))
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute("create database app")
        url = cluster.url("app")
        os.environ.update(
            OPENAI_BASE_URL=standin.base_url,
            OPENAI_API_KEY=standin.key,
            LOCAL_EMBEDDING_MODEL=model,
            DATABASE_URL=url,
        )
        yield url, Settings(database_url=SecretStr(url))


@click.command()
@click.option("--rows", default=20_000, show_default=True, help="Documents of the old app.")
@click.option("--model", default="demo", show_default=True, help="The local embedding model.")
def main(rows: int, model: str) -> None:
    """Migrate under load, switch, switch back, and print what the app felt."""
    line = Timeline(click.echo)
    with stage(rows, model) as (url, settings):
        with line.phase(f"the old app writes {rows:,} documents with 512 dimensions"):
            runner.upgrade(Target.of(settings), "0001")
            old_app(url, rows)
        config = Config(url, "migrations.demo.__main__:embedder", rows)
        with load(config) as running:
            threading.Event().wait(3)  # connections and caches of the app
            migrate(line, settings, running)
            samples = running.stop()
        click.echo("\n" + line.table(samples))
        errors = sorted({s.error for s in samples if s.error})
        click.echo(f"\n{len(samples):,} requests of the app, {len(errors)} kinds of error {errors}")
        click.echo("\n".join(status(settings).lines()))


if __name__ == "__main__":
    main()
