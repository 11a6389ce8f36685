"""For an app's own Alembic: what its autogenerate must leave alone.

from provider.vectors.autogenerate import include_name

context.configure(..., include_schemas=True, include_name=include_name)
"""

from __future__ import annotations

from collections.abc import Mapping

from provider.settings import Settings


def include_name(
    name: str | None, type_: str, parent_names: Mapping[str, str | None] | None = None
) -> bool:
    """Alembic's hook of that name: false for our schema, true for everything else.

    Needed with `include_schemas=True` only: without it Alembic looks at the default schema, where
    nothing of ours is. An app with a hook of its own asks both: `mine(...) and include_name(...)`.
    """
    schema = name if type_ == "schema" else (parent_names or {}).get("schema_name")
    return schema is None or schema != Settings().vector_schema
