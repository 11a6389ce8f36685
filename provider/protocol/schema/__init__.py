"""JSON Schema to a constraint on generated text, exactly or not at all.

compile(schema) -> Constraint         raises SchemaRefused(keyword, path, reason)
constraint.matcher(tokenizer)         fresh state for one answer
relaxed(schema) -> (schema, pointers) what of a schema can be enforced, and what cannot

The promise. Text under a compiled constraint is the JSON of a valid instance; every valid instance
has such a text; a schema for which that cannot be kept raises `SchemaRefused`, at once. In detail:

- The text is compact; members stand in the order of `properties`, then of `required`, then others
  in any order; a character is written as `json.dumps(ensure_ascii=False)` writes it.
- Whole numbers where only those are valid have no point (`5`, not `5.0`); numbers under bounds have
  no exponent, others one of at most 299: every reader can hold them. Values are compared as JSON
  Schema does, as numbers: `5.0` is the value `5`.
- The formats that JSON Schema defines are enforced (`regular.formats`), others annotate.
  `contentEncoding` and its kin annotate. Patterns are ECMA-262 with `u`.
- Among members that the schema does not name, a name may be repeated; the last one counts, as in
  every common JSON reader, and each is valid.
- Dates begin with the year 0001; leap seconds are written in UTC only. Lone surrogates are never
  written.
"""

from provider.protocol.schema.compiler import any_object, compile, lark, regex
from provider.protocol.schema.constraint import Constraint
from provider.protocol.schema.findings import Finding
from provider.protocol.schema.lint import lint
from provider.protocol.schema.openai_subset import name_findings, openai_strict_findings
from provider.protocol.schema.refused import Malformed, SchemaRefused
from provider.protocol.schema.relaxed import relaxed

__all__ = [
    "Constraint",
    "Finding",
    "Malformed",
    "SchemaRefused",
    "any_object",
    "compile",
    "lark",
    "lint",
    "name_findings",
    "openai_strict_findings",
    "regex",
    "relaxed",
]
