"""What the database holds: the adopted table, the spaces, and what the server can do."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from provider.errors import ConfigurationError
from provider.settings import Settings
from provider.vectors.database import Capabilities, capabilities
from provider.vectors.flow import Flow, Query
from provider.vectors.source import Source, check_whole, inspect
from provider.vectors.spaces import Identity, Space, identity

_COLUMNS = (
    "id, name, provider, model, revision, dimensions, element, metric, fingerprint, storage, "
    "relation, state, probe"
)
_EXTENSION = (
    "(select n.nspname::text from pg_extension e join pg_namespace n on n.oid = e.extnamespace "
    "where e.extname = 'vector')"
)


@dataclass(frozen=True)
class Catalog:
    """Read once when a store, a job or a check starts."""

    source: Source
    spaces: Sequence[Space]
    capabilities: Capabilities

    def space(self, name: str) -> Space:
        """The space of this name, or the only one of a provider of this name.

        Raises `ConfigurationError` naming the spaces that there are.
        """
        live = [space for space in self.spaces if space.state != "retired"]
        found = [s for s in live if s.name == name] or [s for s in live if s.provider == name]
        if len(found) == 1:
            return found[0]
        names = [space.name for space in live]
        close = difflib.get_close_matches(name, [*names, *(s.provider for s in live)], n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        problem = "is ambiguous" if found else "is not there"
        raise ConfigurationError(
            f"The space {name!r} {problem}; {hint}the spaces are {', '.join(names) or 'none'}."
        )

    def of(self, settings: Settings, provider: str) -> Space:
        """The space that a provider's settings describe.

        Raises `ConfigurationError` when there is none: the model or width was changed, or the
        database was not upgraded for it.
        """
        wanted = identity(settings, provider)
        for space in self.spaces:
            if space.state != "retired" and matches(wanted, space):
                return space
        mine = [s.name for s in self.spaces if s.provider == provider and s.state != "retired"]
        known = f"it has {', '.join(mine)}" if mine else "it has none of this provider"
        width = f"{wanted.dimensions} dimensions, " if wanted.dimensions else ""
        raise ConfigurationError(
            f"EMBEDDING_PROVIDER={provider!r} means the model {wanted.model!r} ({width}"
            f"{wanted.element}, {wanted.metric}), but the database has no space of it; {known}. "
            "Run `sllm db upgrade` and `sllm db backfill`, or set the old model again."
        )


def matches(wanted: Identity, space: Space) -> bool:
    """Whether the settings mean this space: everything but the unknown width is compared."""
    return (
        wanted.provider == space.provider
        and wanted.model == space.model
        and wanted.revision == space.revision
        and wanted.dimensions in (None, space.dimensions)
    )


def load(settings: Settings) -> Flow[Catalog]:
    """Read the catalogue.

    Raises `ConfigurationError` when the database was not upgraded, when the table is not there,
    and when the settings now name other columns than those that the triggers watch.
    """
    found = yield from capabilities()
    source = yield from inspect(settings)
    if source is None:
        raise ConfigurationError(
            f"VECTOR_TABLE={settings.vector_table!r} is not in the database; run "
            "`sllm db upgrade` to create it, or `sllm db adopt` to find the table you have."
        )
    rows = yield Query("select to_regclass(%s) is not null", [f"{source.schema}.embedding_spaces"])
    if not rows[0][0]:
        raise ConfigurationError(
            f"The database has no schema {source.schema!r} of ours; run `sllm db upgrade`."
        )
    yield from _check_watched(source)
    return Catalog(source, (yield from spaces(source)), found)


def load_whole(settings: Settings) -> Flow[Catalog]:
    """`load` for whoever fills, drains or checks a space.

    Raises `ConfigurationError` also for a role that does not see every row.
    """
    found = yield from load(settings)
    check_whole(found.source)
    return found


def spaces(source: Source) -> Flow[list[Space]]:
    """The registry, oldest first."""
    rows = yield Query(
        sql.SQL(f"select {_COLUMNS}, {_EXTENSION} from {{}} order by id").format(
            source.own("embedding_spaces")
        )
    )
    return [Space(*row) for row in rows]


def _check_watched(source: Source) -> Flow[None]:
    rows = yield Query(
        sql.SQL("select table_schema, table_name, id_column, text_columns from {}").format(
            source.own("source")
        )
    )
    watched = (*rows[0][:3], tuple(rows[0][3]))
    wanted = (source.table_schema, source.table, source.id_column, source.text_columns)
    if watched != wanted:
        raise ConfigurationError(
            f"VECTOR_SCHEMA={source.schema!r} watches {_said(watched)}, but the settings say "
            f"{_said(wanted)}; set them back, or give this table a VECTOR_SCHEMA of its own."
        )


def _said(watched: tuple[str, str, str, tuple[str, ...]]) -> str:
    schema, table, key, texts = watched
    return f"{schema}.{table} ({key}: {', '.join(texts)})"
