"""What makes an embedding space: provider, model, revision, dimensions, type, metric.

Equal width is not equal space: `fingerprint` tells two spaces apart, and the vector of a fixed
text (`PROBE`) tells whether the model behind a name still is the one that filled the space.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Literal, LiteralString

from psycopg import sql

from provider.errors import ConfigurationError
from provider.settings import Settings

Element = Literal["vector", "halfvec"]
Metric = Literal["cosine", "l2", "ip"]
Storage = Literal["app_column", "side_table"]
State = Literal["filling", "filled", "ready", "retired"]

PROBE = "방 세 개, 남향 거실과 주방. Three rooms, a kitchen and a living room facing south."
"""Embedded when a space is created and at every start."""
PROBE_COSINE = 0.98
"""Below this the model is another one. Rounding (bf16, a hosted model's own noise) stays above
0.995; another pooling of the same weights falls below 0.95."""

OPERATORS: dict[Metric, LiteralString] = {"cosine": "<=>", "l2": "<->", "ip": "<#>"}
OPERATOR_CLASSES: dict[Metric, str] = {"cosine": "cosine_ops", "l2": "l2_ops", "ip": "ip_ops"}
MOST_INDEXED: dict[Element, int] = {"vector": 2000, "halfvec": 4000}


@dataclass(frozen=True)
class Identity:
    """A space as the settings describe it; `dimensions` is None until the model was asked."""

    provider: str
    model: str
    revision: str
    dimensions: int | None
    element: Element
    metric: Metric

    @property
    def name(self) -> str:
        """Its name in the registry, in files and in tables: lower case, at most 44 characters."""
        model = re.sub(r"[^a-z0-9]+", "_", self.model.rstrip("/").split("/")[-1].lower()).strip("_")
        parts = [self.provider, model[:24].strip("_"), self.revision[:6], str(self.dimensions)]
        return "_".join(part for part in parts if part)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of everything that decides what a vector means."""
        facts = [self.provider, self.model, self.revision, self.dimensions, self.element]
        encoded = json.dumps([*facts, self.metric], ensure_ascii=False).encode()
        return hashlib.sha256(encoded).hexdigest()[:16]

    def with_dimensions(self, dimensions: int) -> Identity:
        """The same space once its width is known.

        Raises `ConfigurationError` when the settings say another width, or one that pgvector
        cannot index.
        """
        if self.dimensions not in (None, dimensions):
            raise ConfigurationError(
                f"The embedder of {self.provider!r} ({self.model}) gives {dimensions} dimensions, "
                f"but the settings say {self.dimensions}."
            )
        if dimensions > MOST_INDEXED[self.element]:
            raise ConfigurationError(
                f"VECTOR_TYPE={self.element} can be indexed up to {MOST_INDEXED[self.element]} "
                f"dimensions, but {self.model} gives {dimensions}; use "
                "VECTOR_TYPE=halfvec (up to 4000) or ask the model for fewer."
            )
        return Identity(
            self.provider, self.model, self.revision, dimensions, self.element, self.metric
        )


@dataclass(frozen=True)
class Space:
    """A row of `embedding_spaces`."""

    id: int
    name: str
    provider: str
    model: str
    revision: str
    dimensions: int
    element: Element
    metric: Metric
    fingerprint: str
    storage: Storage
    relation: str
    """The side table's name, or the app's own column."""
    state: State
    probe: list[float] | None
    extension_schema: str = "public"
    """Where pgvector is installed; it need not be on anybody's search path."""

    @property
    def operator(self) -> sql.Composed:
        return self.operation(OPERATORS[self.metric])

    def operation(self, symbol: LiteralString) -> sql.Composed:
        """An operator of pgvector, found whatever the search path is."""
        schema = sql.Identifier(self.extension_schema)
        return sql.SQL("operator({}.{})").format(schema, sql.SQL(symbol))

    @property
    def type(self) -> sql.Composed:
        """The type of its vectors, with their width."""
        name = sql.Identifier(self.extension_schema, self.element)
        return sql.SQL("{}({})").format(name, sql.Literal(self.dimensions))

    @property
    def operator_class(self) -> str:
        return f"{self.element}_{OPERATOR_CLASSES[self.metric]}"

    @property
    def side(self) -> bool:
        return self.storage == "side_table"


def identity(settings: Settings, provider: str) -> Identity:
    """The space that a provider's settings describe.

    The app's own column has pgvector's plain type, whatever new spaces use.
    """
    own = provider == settings.vector_embedding_provider
    element: Element = "vector" if own else settings.vector_type
    if provider == "local":
        return Identity(
            provider,
            settings.local_embedding_model,
            settings.local_embedding_revision or "",
            None,
            element,
            settings.vector_metric,
        )
    return Identity(
        provider,
        settings.openai_embedding_model,
        "",
        settings.openai_embedding_dimensions,
        element,
        settings.vector_metric,
    )
