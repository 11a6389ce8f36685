"""Whether a server kept its answer to the schema that it was given.

Some enforce a part of the keywords only (llama.cpp's grammars know no bounds of most numbers,
xgrammar no `uniqueItems`) and say nothing of the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from provider.errors import BadGateway
from provider.protocol.chat import ChatRequest
from provider.protocol.constraints import schema_of
from provider.protocol.formats import JSON


def check_answer(asked: ChatRequest, text: str) -> None:
    """`check` for an answer that came to its own end; one that ran into a stop string may be
    anything."""
    if asked.format.type in JSON and not asked.stop:
        check(schema_of(asked.format), text)


def check(schema: Mapping[str, Any], text: str) -> None:
    """Raises `BadGateway` for text that is no instance, as far as that can be told: where
    `jsonschema` is installed, and patterns aside, whose cost a client could choose."""
    found = _breach(schema, text)
    if found:
        raise BadGateway(
            f"The server behind LOCAL_LLM_BASE_URL broke the schema of its answer: {found}. "
            "Leave the keyword out, or use a server that enforces it."
        )


def _breach(schema: Mapping[str, Any], text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "it is not JSON"
    written = json.dumps(schema)
    if find_spec("jsonschema") is None or '"patternProperties"' in written:
        return ""
    from jsonschema.exceptions import best_match

    error = best_match(_validator(written).iter_errors(value))
    if error is None:
        return ""
    return f"'{error.validator}' does not hold at '/{'/'.join(map(str, error.absolute_path))}'"


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry

    unpatterned = validators.extend(Draft202012Validator, {"pattern": _any})  # type: ignore[no-untyped-call]
    return unpatterned(json.loads(schema), registry=Registry())


def _any(*_: object) -> tuple[()]:
    return ()
