"""A chat completion request, from JSON to frozen data.

`parse` checks the body against the table of parameters and against the rules between parameters;
what it returns can be honoured as far as can be known without the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from provider.protocol import values
from provider.protocol.extensions import EXTENSIONS, NO_EXTRAS, Extras, extended, extras
from provider.protocol.formats import FREE, bound
from provider.protocol.formats import Format as Format
from provider.protocol.messages import Message, messages, text_of
from provider.protocol.parameters import CHAT
from provider.protocol.toolspec import NO_TOOLS, Tools, tools


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request that can be honoured. Defaults are OpenAI's.

    `max_tokens` None means as many as the model may; `max_tokens_param` names the field it came
    from. `logprobs` None means not wanted, k the k most likely tokens beside the chosen one.
    `ignored` are the paths of harmless fields that were sent.
    """

    model: str
    messages: tuple[Message, ...]
    n: int = 1
    max_tokens: int | None = None
    max_tokens_param: str = "max_tokens"
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    format: Format = FREE
    tools: Tools = NO_TOOLS
    prediction: str = ""
    stream: bool = False
    include_usage: bool = False
    running_usage: bool = False
    extras: Extras = NO_EXTRAS
    ignored: tuple[str, ...] = ()


_REQUEST = extended(CHAT, EXTENSIONS)


def parse(body: Mapping[str, Any]) -> ChatRequest:
    """The request that `body` asks for. Raises `InvalidRequest` naming the parameter."""
    ignored: list[str] = []
    _REQUEST.check(body, "", ignored.append)
    for rule in _RULES:
        rule(body)
    chat = messages(body["messages"])
    logprobs = (body.get("top_logprobs") or 0) if body.get("logprobs") else None
    request = shared(body, chat, ignored, logprobs=logprobs)
    form = request.format
    if form.type == "json_object" and form.param == "response_format":
        _check_json_is_named(chat)
    return request


def shared(
    body: Mapping[str, Any], chat: tuple[Message, ...], ignored: list[str], *, logprobs: int | None
) -> ChatRequest:
    """The request of a checked body, of whichever kind of completion. Raises `InvalidRequest`."""
    limit = "max_tokens" if body.get("max_tokens") is not None else "max_completion_tokens"
    form = bound(body)
    callable_ = tools(body)
    return ChatRequest(
        model=body["model"],
        messages=chat,
        max_tokens=body.get(limit),
        max_tokens_param=limit,
        stop=_stop(body.get("stop")),
        logit_bias=_logit_bias(body.get("logit_bias")),
        logprobs=logprobs,
        format=form,
        tools=callable_,
        prediction=text_of((body.get("prediction") or {}).get("content")),
        stream=bool(body.get("stream")),
        include_usage=_streams(body, "include_usage"),
        running_usage=_streams(body, "continuous_usage_stats"),
        extras=extras(body, form, body.get(limit), calling=callable_.mode != "none"),
        ignored=_distinct(ignored),
        **_plain(body),
    )


_PLAIN = ("n", "temperature", "top_p", "seed", "frequency_penalty", "presence_penalty")


def _plain(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: body[name] for name in _PLAIN if body.get(name) is not None}


def _streams(body: Mapping[str, Any], option: str) -> bool:
    return bool((body.get("stream_options") or {}).get(option))


def _stop(raw: Any) -> tuple[str, ...]:
    return (raw,) if isinstance(raw, str) else tuple(raw or ())


def _logit_bias(raw: Mapping[str, float] | None) -> tuple[tuple[int, float], ...]:
    for key in raw or ():
        if not re.fullmatch(r"[0-9]{1,9}", key):
            raise values.conflict(
                "logit_bias",
                f"Invalid key in 'logit_bias': {values.shown(key)}. You should only be submitting "
                "non-negative integers.",
            )
    return tuple((int(key), float(bias)) for key, bias in (raw or {}).items())


def _check_json_is_named(chat: tuple[Message, ...]) -> None:
    if not any("json" in message.content.lower() for message in chat):
        raise values.conflict(
            "messages",
            "'messages' must contain the word 'json' in some form, to use 'response_format' of "
            "type 'json_object'.",
        )


def _distinct(paths: list[str]) -> tuple[str, ...]:
    """Paths without indices, each once: `messages[].content[].prompt_cache_breakpoint`."""
    return tuple(dict.fromkeys(re.sub(r"\[\d+\]", "[]", path) for path in paths))


def _one_limit(body: Mapping[str, Any]) -> None:
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise values.conflict(
            "max_tokens",
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "invalid_parameter_combination",
        )


def _only_with(name: str, other: str) -> Callable[[Mapping[str, Any]], None]:
    def rule(body: Mapping[str, Any]) -> None:
        if body.get(name) is not None and not body.get(other):
            raise values.conflict(
                name, f"The '{name}' parameter is only allowed when '{other}' is enabled."
            )

    return rule


def _running_with_usage(body: Mapping[str, Any]) -> None:
    if _streams(body, "continuous_usage_stats") and not _streams(body, "include_usage"):
        raise values.conflict(
            "stream_options.continuous_usage_stats",
            "'stream_options.continuous_usage_stats' is only allowed when "
            "'stream_options.include_usage' is enabled.",
        )


_RULES: tuple[Callable[[Mapping[str, Any]], None], ...] = (
    _one_limit,
    _only_with("top_logprobs", "logprobs"),
    _only_with("stream_options", "stream"),
    _running_with_usage,
)
