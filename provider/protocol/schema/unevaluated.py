"""`unevaluatedProperties` and `unevaluatedItems`."""

from __future__ import annotations

from provider.protocol.schema.document import Place
from provider.protocol.schema.formula import Formula
from provider.protocol.schema.refused import SchemaRefused
from provider.protocol.schema.values import Values


def unevaluated(values: Values, place: Place) -> Formula:
    raise SchemaRefused("unevaluatedProperties", place.pointer, "not supported")
