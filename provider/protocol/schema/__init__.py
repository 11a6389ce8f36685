"""JSON Schema to a constraint on generated text, exactly or not at all.

compile(schema) -> Constraint         raises SchemaRefused(keyword, path, reason)
constraint.matcher(tokenizer)         fresh state for one answer
"""

from provider.protocol.schema.compiler import any_object, compile, lark, regex
from provider.protocol.schema.constraint import Constraint
from provider.protocol.schema.findings import Finding
from provider.protocol.schema.lint import lint
from provider.protocol.schema.openai_subset import name_findings, openai_strict_findings
from provider.protocol.schema.refused import SchemaRefused

__all__ = [
    "Constraint",
    "Finding",
    "SchemaRefused",
    "any_object",
    "compile",
    "lark",
    "lint",
    "name_findings",
    "openai_strict_findings",
    "regex",
]
