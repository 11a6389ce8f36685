"""What binds an answer's text: the response format, the tools, or both, as one constraint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from provider.protocol import grammars, schema
from provider.protocol.chat import ChatRequest, Format
from provider.protocol.deltas import Plain, Reader
from provider.protocol.schema import Constraint, SchemaRefused
from provider.protocol.serial import dumps
from provider.protocol.tools import CallReader, before_arguments, grammar
from provider.protocol.toolspec import Function

CALLING = {"auto", "required", "named"}
_ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
_ANSWER = "answer"


def enforceable(request: ChatRequest) -> ChatRequest:
    """The request with what can be enforced of its callable tools' schemas; `ignored` names what
    cannot. A tool with `strict` keeps its schema, and so does the answer's format: `constraint`
    refuses what it cannot enforce of those. The model is still shown what was asked for.

    Raises `SchemaRefused` for what is no JSON Schema.
    """
    if request.tools.mode not in CALLING:
        return request
    tools, left_out = [], []
    for function in request.tools.callable:
        kept, gone = ({}, ()) if function.strict else _relaxed(function)
        tools.append(replace(function, parameters=kept) if gone else function)
        left_out += [f"{function.path}#{pointer}" for pointer in gone]
    if not left_out:
        return request
    callable_ = replace(request.tools, callable=tuple(tools))
    return replace(request, tools=callable_, ignored=(*request.ignored, *left_out))


def _relaxed(function: Function) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    try:
        return schema.relaxed(function.parameters)
    except SchemaRefused as refused:
        raise refused.at(function.path) from refused


def constraint(request: ChatRequest) -> Constraint | None:
    """None where any text may be written.

    Raises `SchemaRefused`, whose `param` names the schema.
    """
    bound = request.format.type != "text"
    if request.tools.mode not in CALLING:
        return _compiled(request.format) if bound else None
    for function in request.tools.callable:
        _check(function)
    free_text = _ANSWER if bound else ""
    text = free_text if request.tools.mode == "auto" else None
    rules, schemas = grammar(request.tools.callable, text=text, parallel=request.tools.parallel)
    if text == _ANSWER:
        _compiled(request.format)
        schemas = {**schemas, _ANSWER: schema_of(request.format)}
    after = {**before_arguments(request.tools.callable), _ANSWER: ""}
    try:
        return _composed(rules, dumps(schemas), dumps(after))
    except SchemaRefused as refused:  # each of them alone was not
        raise refused.at("functions" if request.tools.legacy else "tools") from refused


@lru_cache(maxsize=256)
def _composed(rules: str, schemas: str, after: str) -> Constraint:
    """Cached: an app sends the same tools with every request, and composing takes milliseconds."""
    return schema.lark(rules, json.loads(schemas), json.loads(after))


def reader(request: ChatRequest) -> Reader:
    """A fresh reader of one answer to this request."""
    if request.tools.mode not in CALLING:
        return Plain()
    return CallReader(after_text=request.format.type == "text")


def schema_of(form: Format) -> Mapping[str, Any]:
    """What bounds an answer that is bound: a schema, or any JSON object."""
    return form.schema if form.schema is not None else _ANY_OBJECT


def _compiled(form: Format) -> Constraint:
    compiled = _COMPILED.get(form.type)
    if compiled is not None:
        return compiled(form.source, form.param)
    try:
        return schema.compile(schema_of(form), strict=form.strict)
    except SchemaRefused as refused:
        raise refused.at(form.param) from refused


_COMPILED: Mapping[str, Callable[[str, str], Constraint]] = {
    "regex": grammars.matching,
    "grammar": grammars.written,
    "choice": lambda source, param: grammars.one_of(json.loads(source)),
}


def _check(function: Function) -> None:
    """A tool's schema alone, so that a refusal names it."""
    try:
        schema.compile(function.parameters)
    except SchemaRefused as refused:
        raise refused.at(function.path) from refused
