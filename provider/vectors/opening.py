"""What a store checks before it is used: the database, the space, the model, the rows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from provider.errors import ConfigurationError
from provider.settings import Settings
from provider.vectors import catalog, embedding, readiness
from provider.vectors.catalog import Catalog
from provider.vectors.database import Database
from provider.vectors.embedding import Embedder
from provider.vectors.flow import run
from provider.vectors.spaces import Space

_log = logging.getLogger(__name__)


def check(
    database: Database,
    settings: Settings,
    embedder: Callable[[Space], Embedder],
    provider: str,
) -> tuple[Catalog, Space]:
    """The catalogue, and the space of the provider, once it may be used.

    Raises `ConfigurationError`: no such space, a model other than the one that filled it, rows
    that it lacks. Rows that were written a moment ago are embedded here first.
    """
    with database.connect(autocommit=True) as connection:
        found = run(connection, catalog.load(settings))
        space = found.of(settings, provider)
        probe = embedding.probe(embedder(space))
        embedding.compare_probe(space, probe)
        _note_use(connection, found, space, probe)
        _check_rows(connection, found, space, settings, embedder(space))
    return found, space


def _note_use(
    connection: psycopg.Connection[Any], found: Catalog, space: Space, probe: list[float]
) -> None:
    """The first process to use a space records the probe that later ones are compared with."""
    call = sql.SQL("select {}(%s::smallint, %s::real[])").format(found.source.own("used"))
    connection.execute(call, [space.id, probe])


def _check_rows(
    connection: psycopg.Connection[Any],
    found: Catalog,
    space: Space,
    settings: Settings,
    embedder: Embedder,
) -> None:
    counted = readiness.caught_up(connection, found, space, lambda: embedder)
    if counted.ready:
        return
    if settings.embedding_on_incomplete == "refuse":
        raise ConfigurationError(counted.sentence())
    _log.warning("%s", counted.sentence())
