"""Sources of constraints: a JSON Schema, any JSON object, a regular expression, a Lark grammar."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

from provider.protocol.schema.compiled import Compiled, identity
from provider.protocol.schema.constraint import Constraint, canonical, digest
from provider.protocol.schema.document import Document
from provider.protocol.schema.emit import Emitter
from provider.protocol.schema.formula import node
from provider.protocol.schema.keywords import read
from provider.protocol.schema.limits import LIGHT_GRAMMAR, MAX_EFFORT, MAX_GRAMMAR, MAX_TEXT
from provider.protocol.schema.probe import problem
from provider.protocol.schema.refused import SchemaRefused
from provider.protocol.schema.regular.effort import TooComplex, allowance
from provider.protocol.schema.sites import Site
from provider.protocol.schema.values import Values

Schema = Mapping[str, Any] | bool

_compiled = Compiled()


def compile(schema: Schema, *, strict: bool = False) -> Constraint:
    """The constraint under which every valid instance of `schema` can be written, and no other.

    `strict` makes no difference here: a schema is enforced whether or not OpenAI would be asked to.
    Raises `SchemaRefused`. Equal schemas (key order included) share one constraint, of the 256
    used last.
    """
    key = identity(schema)
    found = None if key is None else _compiled.get(key)
    if found is None:
        found = _compile(_text(schema))
        if key is not None:
            _compiled.put(key, found)
    return found


def any_object() -> Constraint:
    """Any JSON object (OpenAI's `json_object` mode)."""
    return compile({"type": "object"})


def regex(pattern: str) -> Constraint:
    """Text that matches `pattern` as a whole (Rust `regex` syntax, no lookaround)."""
    from llguidance import LLMatcher

    return _checked(LLMatcher.grammar_from_regex(pattern), digest("regex", pattern))


def lark(
    text: str,
    schemas: Mapping[str, Schema] | None = None,
    after: Mapping[str, str] | None = None,
) -> Constraint:
    """A Lark grammar (llguidance's dialect) in which each of `schemas` is a rule of that name.

    Names are lower case letters, digits and `_`, starting with a letter. The rule matches the JSON
    text of an instance, so `start: TEXT | "<call>" call` with `schemas={"call": ...}` is free text
    or a call. `after` has the text that stands right before each of them, and before nothing else;
    it is needed for schemas whose items the matcher must compare (`uniqueItems`).
    """
    for name in schemas or {}:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError(f"{name!r} cannot name a grammar rule")
    rules, openings, light = [], {}, True
    for name, schema in (schemas or {}).items():
        grammar, site, small = _rules(_text(schema), name, f"{name}_")
        rules.append(grammar)
        light = light and small
        if site is not None and (after is None or name not in after):
            raise SchemaRefused("uniqueItems", "", "its items cannot be compared in this place.")
        if site is not None and after is not None:
            openings[after[name].encode()] = site
    grammar = "\n".join([text, *rules])
    if not (light and len(grammar) < LIGHT_GRAMMAR) and (why := problem(grammar)):
        raise SchemaRefused(
            "",
            "",
            f"all schemas together are too large or too deep for one grammar ({why}).",
            mend="Send fewer tools, or smaller schemas.",
        )
    return replace(_checked(grammar, digest("lark", grammar)), openings=openings)


def _text(schema: Any) -> str:
    try:
        text = canonical(schema)
    except RecursionError:
        raise SchemaRefused("", "", "it is nested too deeply.") from None
    if len(text) > MAX_TEXT:
        raise SchemaRefused(
            "", "", f"its text has {len(text)} characters; at most {MAX_TEXT} are taken."
        )
    return text


@lru_cache(maxsize=256)
def _compile(text: str) -> Constraint:
    grammar, site, light = _rules(text, "start", "")
    if not light and (why := problem(grammar)):
        raise SchemaRefused("", "", f"its grammar is too large or too deep ({why}).")
    return Constraint(grammar, digest("json", text), {} if site is None else {b"": site})


def _rules(text: str, name: str, prefix: str) -> tuple[str, Site | None, bool]:
    """The grammar of a schema, under the rule `name`; all other names start with `prefix`.

    And where the matcher must compare items, and whether the grammar is light."""
    try:
        with allowance(MAX_EFFORT), _uncollected():
            return _emit(json.loads(text), name, prefix)
    except TooComplex:
        raise SchemaRefused("", "", "its parts combine in too many ways.") from None
    except RecursionError:
        raise SchemaRefused("", "", "it is nested too deeply.") from None


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector of cycles: there are none here, and it takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _emit(schema: Any, name: str, prefix: str) -> tuple[str, Site | None, bool]:
    document = Document(schema)
    emitter = Emitter(Values(document, read), prefix)
    root = node(document.root_address())
    start = emitter.start(root)
    if not emitter.grammar.productive(start):
        raise SchemaRefused("", "", "no value is valid under it.")
    grammar = emitter.grammar.text(start, name)
    if len(grammar) > MAX_GRAMMAR:
        raise SchemaRefused("", "", f"its grammar has more than {MAX_GRAMMAR} characters.")
    site = emitter.survey(root) if emitter.guarded else None
    emitter.values.let_go()
    return grammar, site, emitter.grammar.light


def _checked(grammar: str, key: str) -> Constraint:
    from llguidance import LLMatcher

    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar)
    if failed:
        raise SchemaRefused("", "", f"the grammar cannot be built: {messages[0][:500]}")
    return Constraint(grammar, key)
