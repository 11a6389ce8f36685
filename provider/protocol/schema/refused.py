"""Why a schema cannot be enforced: keyword, place, reason and the way out."""

from __future__ import annotations

from provider.errors import InvalidRequest

PARAM = "response_format.json_schema.schema"


class SchemaRefused(InvalidRequest):
    """400: the schema is not valid, not satisfiable, or not enforceable exactly.

    `keyword` is the keyword at fault (`""` for the schema as a whole), `path` the JSON pointer of
    the subschema that holds it (RFC 6901; `""` is the root), `reason` one sentence.
    """

    default_code = "invalid_json_schema"

    def __init__(
        self, keyword: str, path: str, reason: str, *, mend: str = "", param: str = PARAM
    ) -> None:
        self.keyword = keyword
        self.path = path
        self.reason = reason
        self.mend = mend
        where = f"'#{path}'"
        what = f"'{keyword}' at {where}" if keyword else f"The schema at {where}"
        way_out = f" {mend}" if mend else ""
        super().__init__(f"Invalid schema: {what}: {reason}{way_out}", param=param)

    def at(self, param: str) -> SchemaRefused:
        """The same refusal for another request parameter (a tool's schema, say)."""
        return type(self)(self.keyword, self.path, self.reason, mend=self.mend, param=param)

    def inside(self, path: str) -> SchemaRefused:
        """The same refusal, for the subschema at `path`."""
        return type(self)(
            self.keyword, path, self.reason, mend=self.mend, param=self.param or PARAM
        )


class Malformed(SchemaRefused):
    """It is no JSON Schema: a keyword has a value that the specification does not allow. OpenAI
    refuses these too, with `strict` or without."""
