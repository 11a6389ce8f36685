"""Embedding spaces in PostgreSQL: write, search, keep every space fresh, switch between them.

Importing this package loads nothing: each public name is loaded when it is first used, so that
the keeper of the embedded server starts without psycopg.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from provider.vectors.async_store import AsyncVectorStore
    from provider.vectors.embedded import Cluster
    from provider.vectors.readiness import Readiness, check_readiness
    from provider.vectors.search import Hit
    from provider.vectors.shared import SharedServer
    from provider.vectors.store import VectorStore

_HOMES = {
    "AsyncVectorStore": "provider.vectors.async_store",
    "Cluster": "provider.vectors.embedded",
    "Hit": "provider.vectors.search",
    "Readiness": "provider.vectors.readiness",
    "VectorStore": "provider.vectors.store",
    "check_readiness": "provider.vectors.readiness",
    "SharedServer": "provider.vectors.shared",
}

__all__ = [
    "AsyncVectorStore",
    "Cluster",
    "Hit",
    "Readiness",
    "SharedServer",
    "VectorStore",
    "check_readiness",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
