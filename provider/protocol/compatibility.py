"""Prints docs/compatibility.md from the table of parameters.

python -m provider.protocol.compatibility > docs/compatibility.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from provider.protocol.extensions import EXTENSIONS
from provider.protocol.freeform import Map
from provider.protocol.parameters import CHAT, EMBEDDINGS, MODELS
from provider.protocol.responses.parameters import RESPONSES
from provider.protocol.shapes import (
    Array,
    Decimal,
    Either,
    Integer,
    Object,
    Parameter,
    Shape,
    String,
    Support,
    Tagged,
)
from provider.protocol.texts import TEXTS

ENDPOINTS: dict[str, Object] = {
    "POST /v1/chat/completions": CHAT,
    "POST /v1/responses": RESPONSES,
    "POST /v1/completions": TEXTS,
    "POST /v1/embeddings": EMBEDDINGS,
    "GET /v1/models/{model}": MODELS,
}

_ABOUT = """\
# Compatibility of the local provider

Generated from `provider/protocol/parameters.py` by `python -m provider.protocol.compatibility`; a
test keeps it current, and another walks the types of the official SDK so that no field is missing.

Every field of a request is one of three:

- **honoured**: in effect in every answer;
- **refused**: a 400 that names the parameter (`param`) and the reason, before the first token;
- **harmless**: accepted without effect on the answer, and named in the response header
  `x-ignored-params`.

A field that is in no table is refused with `unknown_parameter`, a value of the wrong type with
`invalid_type`, one out of range with OpenAI's own code for it. Beside these endpoints the local
provider answers `GET /v1/models` (no parameters), `POST /v1/responses/input_tokens` (the fields of
`POST /v1/responses` that have a say in the prompt), `GET` and `DELETE /v1/responses/{id}`,
`GET /v1/responses/{id}/input_items` (`limit`, `order`, `after`), `POST /v1/responses/{id}/cancel`
(always OpenAI's refusal: no response runs in the background), `POST /v1/load_lora_adapter` and
`POST /v1/unload_lora_adapter` (vLLM's, with the admin key); every other path is a 404 and every
other method a 405. The provider `openai` forwards requests byte for byte: there OpenAI decides.

## How a request reaches the model

- Roles: `developer` is read as `system`; a `name` is written before its message's text.
- Tools are described at the end of the system message, one JSON object per line. A call is written
  `<tool_call>{"name":"NAME","arguments":{...}}</tool_call>`, several directly after each other,
  text only before the first; a grammar binds the arguments to the tool's schema. With
  `tool_choice: "auto"` the same grammar leaves text and calls open and the model chooses. A result
  goes back in as `<tool_result>{"name":"NAME","content":"..."}</tool_result>` in a user turn.
- A request without tools passes its messages to the model's own chat template unchanged; a
  `response_format` binds the text and adds nothing to the prompt but its `description`.
- JSON is compact (no blanks between tokens), keys in the order of the schema.

## How an answer is built

- `finish_reason` is `stop`, `length`, `tool_calls` or `function_call`; a named `tool_choice` ends
  `stop`, as OpenAI's does. JSON that was cut by `max_tokens` stays cut and says `length`.
- Under a schema, a string, number or list that repeats itself is closed after
  `LOCAL_LLM_LOOP_TOKENS` tokens (docs/engine.md): OpenAI's models write on.
- A stream that fails after its first byte sends one `data: {"error": ...}` event and breaks off
  without `[DONE]`.
- `usage` counts the local model's tokens, with `cached_tokens` from the prefix cache and
  `accepted_prediction_tokens` / `rejected_prediction_tokens` of a `prediction`.
- `model` names the model that answered, not the alias that was asked for.

## What would break a rollback

What the local provider accepts and OpenAI would refuse, or the other way round, is reported per
request in the header `x-portability` (`PORTABILITY=warn`), refused (`enforce`) or not looked for
(`off`).
"""


@dataclass(frozen=True)
class Row:
    """One field; `support` is that of the outermost refused or harmless field around it."""

    path: str
    support: Support
    takes: str
    why: str


def rows(shape: Shape, path: str = "", around: Parameter | None = None) -> Iterator[Row]:
    """Every field below `shape`, depth first. Arrays read `messages[]`; fields that several
    variants share come once per variant."""
    walk = _WALKS.get(type(shape))
    if walk is not None:
        yield from walk(shape, path, around)


def _object(shape: Object, path: str, around: Parameter | None) -> Iterator[Row]:
    for name, parameter in shape.fields.items():
        outer = _outer(parameter, around)
        inner = f"{path}.{name}" if path else name
        support = outer.support if outer is not None else "honoured"
        why = outer.why if outer is not None and outer is not parameter else parameter.why
        yield Row(inner, support, _takes(parameter), why)
        yield from rows(parameter.shape, inner, outer)


def _outer(parameter: Parameter, around: Parameter | None) -> Parameter | None:
    if around is not None and around.support == "refused":
        return around
    return parameter if parameter.support != "honoured" else around


def _array(shape: Array, path: str, around: Parameter | None) -> Iterator[Row]:
    yield from rows(shape.item, f"{path}[]", around)


def _tagged(shape: Tagged, path: str, around: Parameter | None) -> Iterator[Row]:
    for variant in shape.variants.values():
        outer = _outer(variant, around)
        inner = path
        if variant.support != "honoured":
            alike = [other for other, one in shape.variants.items() if _alike(one, variant)]
            inner = f"{path}{{{shape.tag}: {', '.join(alike)}}}"
            yield Row(inner, variant.support, _takes(variant), variant.why)
        yield from rows(variant.shape, inner, outer)


def _alike(one: Parameter, other: Parameter) -> bool:
    """Whether two variants have the same fate for the same reason: they share a row."""
    return (one.support, one.why) == (other.support, other.why)


def _either(shape: Either, path: str, around: Parameter | None) -> Iterator[Row]:
    for alternative in shape.shapes.values():
        yield from rows(alternative, path, around)


_WALKS: dict[type, Callable[[Any, str, Parameter | None], Iterator[Row]]] = {
    Object: _object,
    Array: _array,
    Tagged: _tagged,
    Either: _either,
}


def _takes(parameter: Parameter) -> str:
    bounds = _BOUNDS.get(type(parameter.shape), _no_bounds)(parameter.shape)
    notes = [
        bounds,
        "required" if parameter.required else "",
        "or null" if parameter.nullable else "",
        *(f"`{value}` passes" for value in parameter.neutral),
    ]
    return ", ".join([parameter.shape.expected, *filter(None, notes)])


def _no_bounds(shape: Any) -> str:
    return ""


def _range(shape: Any) -> str:
    if shape.high is None:
        return "" if shape.low is None else f"at least {shape.low}"
    if shape.high == 2**63 - 1:
        return "64 bit"
    return f"{shape.low} to {shape.high}"


def _length(shape: Any) -> str:
    bounds = [
        f"at least {shape.low}" if shape.low else "",
        f"at most {shape.high}" if shape.high is not None else "",
        f"`^{shape.pattern}$`" if getattr(shape, "pattern", None) else "",
    ]
    unit = " characters" if isinstance(shape, String) else ""
    return ", ".join(
        f"{bound}{unit if bound.startswith('at') else ''}" for bound in bounds if bound
    )


def _properties(shape: Any) -> str:
    return f"at most {shape.max_properties} keys" if shape.max_properties else ""


_BOUNDS: dict[type, Callable[[Any], str]] = {
    Integer: _range,
    Decimal: _range,
    String: _length,
    Array: _length,
    Map: _properties,
}


_PIPE = "\\|"


def table(shape: Object) -> Iterator[str]:
    """A Markdown table: rows that differ in nothing once, nothing below what is refused whole."""
    yield "| Field | Status | Takes | Remark |"
    yield "|---|---|---|---|"
    refused = ""
    for row in dict.fromkeys(rows(shape)):
        if refused and row.path.startswith((f"{refused}.", f"{refused}[")):
            continue
        refused = row.path if row.support == "refused" or row.path.endswith("}") else ""
        cells = (f"`{row.path}`", row.support, row.takes, row.why)
        yield f"| {' | '.join(cell.replace('|', _PIPE) for cell in cells)} |"


_BEYOND = """\
## Beyond OpenAI's API

What apps for vLLM, SGLang or llama.cpp send to `POST /v1/chat/completions` and, where a prompt is
no conversation, to `POST /v1/completions` (through the SDK: `extra_body`). What is honoured is
enforced, as everything above; each is reported in `x-portability`. `min_p`, `top_k` and `top_p` cut
in this order; a penalty comes before them, after `logit_bias`. Behind `LOCAL_LLM_BASE_URL` they go
to a vLLM; for another server only those that bind JSON do.

"""


def document() -> str:
    parts = [_ABOUT]
    for endpoint, shape in ENDPOINTS.items():
        parts.append(f"## {endpoint}\n\n" + "\n".join(table(shape)) + "\n")
    parts.append(_BEYOND + "\n".join(table(Object(EXTENSIONS))) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(document(), end="")
