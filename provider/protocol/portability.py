"""What the local provider takes and OpenAI would refuse: a request that cannot be rolled back.

The other direction needs no lint: what OpenAI takes and the local provider does not is refused at
once, by name. Schemas are linted by `provider.protocol.schema`, and what is taken but enforced by
nobody (a misspelt keyword) is reported too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from provider.errors import InvalidRequest
from provider.protocol.chat import ChatRequest
from provider.protocol.schema import Finding as SchemaFinding
from provider.protocol.schema import lint
from provider.protocol.serial import dumps

_DESCRIPTION = 1024
_HEADER = 2000


@dataclass(frozen=True, slots=True)
class Finding:
    """`param` is the parameter, `message` what OpenAI would do and how to mend it."""

    param: str
    message: str

    def __str__(self) -> str:
        return f"{self.param}: {self.message}"


def findings(request: ChatRequest) -> tuple[Finding, ...]:
    """Everything about a request that OpenAI would refuse or read otherwise."""
    return tuple(finding for rule in _RULES for finding in rule(request))


def foreign_model(asked: str) -> Finding:
    """A model that only exists here."""
    return Finding(
        "model", f"OpenAI has no model '{asked}'; ask for a name of MODEL_ALIASES instead."
    )


def text_completion() -> Finding:
    """A path that OpenAI does not answer with its models of today."""
    return Finding(
        "model", "OpenAI's chat models do not answer /v1/completions; use /v1/chat/completions."
    )


def header(found: Iterable[Finding | str], between: str = "; ") -> str:
    """The value of `x-portability` and its kin: a line of printable ASCII, cut where it is long.

    Names come from the client, control characters included, which no header may carry.
    """
    text = between.join(map(str, found)).replace("\n", " ")
    encoded = "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in text)
    return encoded if len(encoded) <= _HEADER else encoded[: _HEADER - 3] + "..."


def enforce(found: Sequence[Finding]) -> None:
    """Raises `InvalidRequest` for the first finding, naming how many there are."""
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise InvalidRequest(
            f"Not portable: {found[0]}{more} (PORTABILITY=enforce refuses what a rollback to "
            "OpenAI would break; PORTABILITY=warn only reports it.)",
            param=found[0].param,
            code="not_portable",
        )


def _logit_bias(request: ChatRequest) -> Iterator[Finding]:
    if request.logit_bias:
        yield Finding(
            "logit_bias",
            "token ids belong to one tokenizer, and OpenAI would bias other tokens; leave it out "
            "or set it per provider.",
        )


def _extensions(request: ChatRequest) -> Iterator[Finding]:
    for name in request.extras.used:
        yield Finding(name, "OpenAI refuses it as an unknown parameter; leave it out there.")


def _running_usage(request: ChatRequest) -> Iterator[Finding]:
    if request.running_usage:
        yield Finding(
            "stream_options.continuous_usage_stats",
            "OpenAI refuses it as an unknown parameter; leave it out there.",
        )


_WITH_PREDICTION: tuple[tuple[str, Callable[[ChatRequest], bool]], ...] = (
    ("n", lambda request: request.n > 1),
    ("logprobs", lambda request: request.logprobs is not None),
    ("presence_penalty", lambda request: request.presence_penalty > 0),
    ("frequency_penalty", lambda request: request.frequency_penalty > 0),
    ("tools", lambda request: bool(request.tools.declared)),
    (
        "max_completion_tokens",
        lambda request: (
            request.max_tokens is not None and request.max_tokens_param == "max_completion_tokens"
        ),
    ),
)


def _prediction(request: ChatRequest) -> Iterator[Finding]:
    """https://platform.openai.com/docs/guides/predicted-outputs#limitations"""
    for name, used in _WITH_PREDICTION if request.prediction else ():
        if used(request):
            yield Finding("prediction", f"OpenAI refuses it together with '{name}'; send one.")


def _format(request: ChatRequest) -> Iterator[Finding]:
    form = request.format
    if form.schema is not None and not request.extras.binds:
        yield from _schema(form.param, form.schema, form.strict)


def _tool_schemas(request: ChatRequest) -> Iterator[Finding]:
    for function in request.tools.declared:
        yield from _schema(function.path, function.parameters, function.strict)


def _schema(param: str, schema: Mapping[str, Any], strict: bool) -> Iterator[Finding]:
    for found in _linted(dumps(schema), strict):
        yield Finding(f"{param}#{found.path}", f"{found.message} {found.mend}".strip())


@lru_cache(maxsize=256)
def _linted(schema: str, strict: bool) -> tuple[SchemaFinding, ...]:
    """Cached: an app sends the same schema with every request."""
    return tuple(lint(json.loads(schema), strict))


def _descriptions(request: ChatRequest) -> Iterator[Finding]:
    for function in request.tools.declared:
        if len(function.description or "") > _DESCRIPTION:
            path = function.path.removesuffix("parameters") + "description"
            yield Finding(path, f"OpenAI takes at most {_DESCRIPTION} characters; shorten it.")


_RULES: tuple[Callable[[ChatRequest], Iterator[Finding]], ...] = (
    _logit_bias,
    _running_usage,
    _extensions,
    _prediction,
    _descriptions,
    _format,
    _tool_schemas,
)
