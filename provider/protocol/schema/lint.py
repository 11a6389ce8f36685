"""Whether a schema works on both sides: with OpenAI (strict) and here.

A schema that one side takes and the other refuses makes a switch, or a switch back, break the app.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from provider.protocol.schema.compiler import Schema, compile
from provider.protocol.schema.findings import Finding
from provider.protocol.schema.known import ANNOTATIONS, KEYWORDS, subschemas
from provider.protocol.schema.openai_subset import openai_strict_findings
from provider.protocol.schema.refused import SchemaRefused
from provider.protocol.schema.regular import formats

_ROUNDS = 20
_INSTEAD = {"nullable": "Use 'type' with \"null\" among its names."}
_CONTENT = frozenset({"contentEncoding", "contentMediaType", "contentSchema"})


def lint(schema: Schema, strict: bool = True) -> list[Finding]:
    """Everything to know before sending the schema to either side.

    `strict` says whether OpenAI would be asked with `strict: true`; without it OpenAI takes any
    object schema and enforces nothing, so only the local side has something to say.
    """
    found = openai_strict_findings(schema) if strict else []
    return [*found, *_local_refusals(schema), *_unenforced(schema)]


def _local_refusals(schema: Schema) -> Iterator[Finding]:
    """Each refusal; what is refused is then taken out, to see the next one."""
    remaining = schema
    for _ in range(_ROUNDS):
        try:
            compile(remaining)
            return
        except SchemaRefused as refused:
            yield Finding(refused.keyword, refused.path, "local", refused.reason, refused.mend)
            if not refused.path or not isinstance(remaining, Mapping):
                return
            mended = _without(remaining, refused.path)
            if mended == remaining:
                return
            remaining = mended


def _without(schema: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """A copy in which anything is valid at `path`."""
    copy = json.loads(json.dumps(schema))
    *steps, last = [s.replace("~1", "/").replace("~0", "~") for s in path.split("/")[1:]]
    at: Any = copy
    for step in steps:
        at = at[int(step)] if isinstance(at, list) else at[step]
    at[int(last) if isinstance(at, list) else last] = True
    found: Mapping[str, Any] = copy
    return found


def _unenforced(schema: Schema) -> Iterator[Finding]:
    """What is taken, here and elsewhere, without being enforced."""
    for path, inner in subschemas(schema):
        for keyword in inner:
            if keyword in _CONTENT:
                message = f"'{keyword}' describes the string; it is not enforced."
                yield Finding(keyword, path, "local", message, "Use 'pattern'.", refuses=False)
            elif keyword not in KEYWORDS and keyword not in ANNOTATIONS and keyword[:2] != "x-":
                yield _unknown(keyword, path)
        name = inner.get("format")
        if isinstance(name, str) and name not in formats.UNENFORCEABLE | formats.NAMES:
            message = f"the format '{name}' is not one of JSON Schema's; it is not enforced."
            yield Finding("format", path, "local", message, "Use 'pattern'.", refuses=False)


def _unknown(keyword: str, path: str) -> Finding:
    close = difflib.get_close_matches(keyword, KEYWORDS, 1, 0.8)
    mend = f"Did you mean '{close[0]}'?" if close else "Remove it."
    mend = _INSTEAD.get(keyword, mend)
    message = f"'{keyword}' is not a keyword of JSON Schema; it is not enforced."
    return Finding(keyword, path, "local", message, mend, refuses=False)
