"""What the revisions are written with: names already quoted, widths and types already decided.

Revisions import none of our packages; Alembic's context carries these to them.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from provider.errors import ConfigurationError
from provider.settings import Settings
from provider.vectors.database import Capabilities
from provider.vectors.source import Source
from provider.vectors.spaces import MOST_INDEXED, OPERATOR_CLASSES, Identity, Storage


def identifier(name: str) -> str:
    """A quoted identifier. The colon is escaped because Alembic's text() sees a parameter in it."""
    return '"' + name.replace('"', '""').replace(":", "\\:") + '"'


def literal(text: str) -> str:
    """A quoted string."""
    return "'" + text.replace("'", "''").replace(":", "\\:") + "'"


@dataclass(frozen=True)
class Side:
    """A side table and its index, quoted."""

    table: str
    index: str
    index_name: str
    operator_class: str


@dataclass(frozen=True)
class NewSpace:
    """The arguments of `create_space`."""

    identity: Identity
    storage: Storage
    relation: str
    probe: Sequence[float] | None
    pooling: str | None = None

    @property
    def normalised(self) -> bool | None:
        """Whether the model's vectors have length 1, seen on the probe."""
        return None if self.probe is None else abs(math.hypot(*self.probe) - 1) < 1e-2

    def __str__(self) -> str:
        i = self.identity
        probe = "NULL" if self.probe is None else f"'{{{','.join(map(repr, self.probe))}}}'"
        texts = [i.name, i.provider, i.model, i.revision]
        return ", ".join(
            [
                *map(literal, texts),
                str(i.dimensions),
                *map(literal, [i.element, i.metric, i.fingerprint, self.storage, self.relation]),
                f"{probe}::real[]",
                "NULL" if self.pooling is None else literal(self.pooling),
                "NULL" if self.normalised is None else str(self.normalised).lower(),
            ]
        )


@dataclass(frozen=True)
class Parameters:
    """Everything that a revision may ask for. Text is quoted unless it says otherwise."""

    source: Source
    schema: str
    extension: str
    adopted: bool
    own_type: str
    own_operator_class: str
    spaces: Sequence[NewSpace]
    sides: Sequence[Side]
    index_settings: Sequence[tuple[str, str]] = ()
    hnsw_m: int = 16
    hnsw_ef_construction: int = 64
    force: bool = False
    contract_confirmed: bool = False

    @property
    def table(self) -> str:
        return f"{identifier(self.source.table_schema)}.{identifier(self.source.table)}"

    @property
    def table_literal(self) -> str:
        return literal(self.table.replace("\\:", ":"))

    @property
    def id(self) -> str:
        return identifier(self.source.id_column)

    @property
    def id_literal(self) -> str:
        return literal(self.source.id_column)

    @property
    def id_type(self) -> str:
        """As PostgreSQL writes it; not quoted."""
        return self.source.id_type

    @property
    def key_type(self) -> str:
        """The type for columns of ours that hold keys, with the key's collation."""
        return self.source.key_type.replace(":", "\\:")

    @property
    def has_virtual_text(self) -> bool:
        """Whether a text column is computed when it is read (PostgreSQL 18)."""
        found = [self.source.column(name) for name in self.source.text_columns]
        return any(column is not None and column.generated == "v" for column in found)

    @property
    def texts(self) -> list[str]:
        return [identifier(column) for column in self.source.text_columns]

    @property
    def metadata(self) -> str | None:
        column = self.source.metadata_column
        return identifier(column) if column else None

    @property
    def embedding(self) -> str | None:
        column = self.source.embedding_column
        return identifier(column) if column else None

    @property
    def embedding_literal(self) -> str:
        return literal(self.source.embedding_column or "")

    @property
    def extension_clause(self) -> str:
        return f" SCHEMA {self.extension}" if self.extension != '"public"' else ""

    @property
    def source_values(self) -> str:
        s = self.source
        texts = "ARRAY[" + ", ".join(map(literal, s.text_columns)) + "]"
        plain = [s.table_schema, s.table, s.id_column, s.id_type]
        optional = [s.metadata_column, s.embedding_column]
        return ", ".join(
            [
                *map(literal, plain),
                texts,
                *(literal(column) if column else "NULL" for column in optional),
            ]
        )

    def literal(self, text: str) -> str:
        return literal(text)

    def trigger(self, event: str) -> str:
        """A trigger's name: last in the alphabet, so that the app's own triggers run before."""
        return identifier(f"zz_{self.source.schema}_{event}")

    def without_column(self) -> Parameters:
        """The same after contract: the app's own column is gone."""
        return replace(self, source=replace(self.source, embedding_column=None))


def side_relation(name: str) -> str:
    """The side table of a space."""
    return f"vectors_{name}"


def side(schema: str, name: str, extension: str, identity: Identity) -> Side:
    index = shortened(f"{side_relation(name)}_hnsw")
    operators = f"{identity.element}_{OPERATOR_CLASSES[identity.metric]}"
    return Side(
        table=f"{identifier(schema)}.{identifier(side_relation(name))}",
        index=f"{identifier(schema)}.{identifier(index)}",
        index_name=identifier(index),
        operator_class=f"{extension}.{operators}",
    )


def shortened(name: str, limit: int = 63) -> str:
    """PostgreSQL cuts longer names silently; two that only differ at the end would collide."""
    if len(name.encode()) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name.encode()[: limit - 9].decode(errors='ignore')}_{digest}"


def check(settings: Settings, found: Capabilities, table_schema: str) -> None:
    """Raise `ConfigurationError` for settings that this database cannot do."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", settings.vector_schema):
        raise ConfigurationError(
            f"VECTOR_SCHEMA={settings.vector_schema!r} cannot be used: expected lower-case "
            "letters, digits and underscores."
        )
    if settings.vector_schema in {"public", table_schema}:
        raise ConfigurationError(
            f"VECTOR_SCHEMA={settings.vector_schema!r} cannot be used: an app's tables and its own "
            "alembic_version live there; expected a schema for our tables alone, such as sllm."
        )
    if settings.vector_type == "halfvec" and not found.halfvec:
        version = ".".join(map(str, found.pgvector))
        raise ConfigurationError(
            f"VECTOR_TYPE=halfvec needs pgvector 0.7 or later, the database has {version}; use "
            f"VECTOR_TYPE=vector (indexed up to {MOST_INDEXED['vector']} dimensions)."
        )
