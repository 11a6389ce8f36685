"""Runs the verification of one space and records the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from migrations.fill import note
from migrations.verify import checks, exact, ranking, recall
from migrations.verify.checks import Check, Subject
from migrations.verify.ranking import Comparison, Labelled
from migrations.verify.report import Report
from provider.settings import Settings
from provider.vectors import catalog, embedding
from provider.vectors.catalog import Catalog
from provider.vectors.database import Database
from provider.vectors.embedding import MakeEmbedder
from provider.vectors.flow import run


@dataclass(frozen=True)
class Options:
    """How much is looked at."""

    queries: int = 50
    """Sampled queries for recall and overlap."""
    again: int = 20
    """Documents that are embedded again."""
    labelled: Path | None = None


def verify(
    settings: Settings,
    name: str,
    options: Options = Options(),
    *,
    make: MakeEmbedder | None = None,
) -> Report:
    """Check the space of this name (or of this provider) against the database, its model, and the
    other space.

    A safe space's state becomes `ready`; an unsafe one's goes back to `filled`. Embeds
    `options.again` documents, and with the other space's model the sampled queries.
    """
    make = make or embedding.from_settings(settings)
    database = Database(settings)
    with ExitStack() as stack:
        stack.callback(database.close)
        connection = stack.enter_context(database.connect(autocommit=True))
        found = run(connection, catalog.load_whole(settings))
        space = found.space(name)
        subject = Subject(connection, found, space, make(space.provider))
        results = checks.all_of(subject, options.again)
        other = _other(subject, make)
        texts = _sample_texts(subject, options.queries) if other else []
        asked = recall.embed_queries(subject, texts) if texts else []
        measured = recall.measure(subject, options.queries, settings.vector_ef_search, asked)
        results.append(recall.check(measured))
        report = Report(space.name, results, measured.values)
        if other is not None:
            report = _against(report, subject, other, texts, measured.others, options.labelled)
        _record(connection, found, space.id, report)
        return report


def _other(subject: Subject, make: MakeEmbedder) -> Callable[[], Subject] | None:
    """The other live space, where there is one; its embedder is made when it is asked for."""
    found = subject.catalog
    others = [s for s in found.spaces if s.id != subject.space.id and s.state != "retired"]
    if not others:
        return None
    return lambda: Subject(subject.connection, found, others[0], make(others[0].provider))


def _against(
    report: Report,
    subject: Subject,
    make_other: Callable[[], Subject],
    texts: Sequence[str],
    ours: Sequence[exact.Found],
    labelled: Path | None,
) -> Report:
    """Overlap and quality, compared with the other space."""
    shared: list[float] = []
    comparisons: list[Comparison] = []
    try:
        other = make_other()
        if texts:
            asked = recall.embed_queries(other, texts)
            shared = recall.overlap(ours, exact.nearest(other, asked, recall.K))
        if labelled is not None:
            comparisons = _compare(subject, other, ranking.load(labelled))
    except Exception as error:
        if embedding.verdict(error) == "poison":
            raise
        detail = f"the embedder of the other space cannot be asked: {error}"
        skipped = Check("comparison with the other space", False, detail, blocking=False)
        return Report(report.space, [*report.checks, skipped], report.recall)
    facts = {}
    if shared:
        mean = sum(shared) / len(shared)
        facts["overlap"] = f"{mean:.2f} of the 10 nearest are the same in {other.space.name}"
    return Report(report.space, report.checks, report.recall, shared, comparisons, facts)


def _compare(subject: Subject, other: Subject, queries: Sequence[Labelled]) -> list[Comparison]:
    new, old = _rankings(subject, queries), _rankings(other, queries)
    return [
        ranking.compare("nDCG@10", ranking.ndcg, queries, new, old),
        ranking.compare("recall@10", ranking.recall, queries, new, old),
    ]


def _rankings(subject: Subject, queries: Sequence[Labelled]) -> list[list[Any]]:
    vectors = recall.embed_queries(subject, [labelled.query for labelled in queries])
    return [[key for key, _ in found] for found in exact.nearest(subject, vectors, recall.K)]


def _sample_texts(subject: Subject, count: int) -> list[str]:
    """Texts like queries: the first words of some documents."""
    source = subject.catalog.source
    statement = sql.SQL("select {} from {} d order by random() limit %s").format(
        source.text("d"), source.relation
    )
    rows = subject.connection.execute(statement, [count], prepare=False).fetchall()
    return [" ".join(str(row[0]).split()[:12]) for row in rows if str(row[0]).strip()]


def _record(
    connection: psycopg.Connection[Any], found: Catalog, space_id: int, report: Report
) -> None:
    statement = sql.SQL(
        "update {} set state = case when %s then 'ready' when state = 'ready' and storage = "
        "'side_table' then 'filled' else state end, verified_at = now() where id = %s"
    ).format(found.source.own("embedding_spaces"))
    connection.execute(statement, [report.safe, space_id])
    note(connection, found.source, report.space, "verified" if report.safe else "not safe")
