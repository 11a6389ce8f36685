"""Request parameters that OpenAI does not have and apps for vLLM, SGLang or llama.cpp send.

Those that can be enforced exactly are honoured; each is reported as not portable. Of the others the
values that ask for nothing pass, and anything else is refused with the reason. Names and meanings
are vLLM's: https://docs.vllm.ai/en/stable/serving/openai_compatible_server/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provider.protocol import values
from provider.protocol.formats import STRUCTURED, Format
from provider.protocol.freeform import Json
from provider.protocol.shapes import (
    Array,
    Boolean,
    Decimal,
    Integer,
    Object,
    Parameter,
    Shape,
    String,
)

_MAX_TOKEN = 2**31 - 1
_NO_PROMPT_SCORES = "Log-probabilities of the prompt are not computed."
_TEMPLATE = "The model's own chat template is used, with its reasoning off."


def _honoured(shape: Shape, why: str = "") -> Parameter:
    return Parameter(shape, why, nullable=True)


def _refused(shape: Shape, why: str, *neutral: object) -> Parameter:
    return Parameter(shape, why, "refused", nullable=True, neutral=neutral)


def _harmless(shape: Shape, why: str) -> Parameter:
    return Parameter(shape, why, "harmless", nullable=True)


SAMPLING: dict[str, Parameter] = {
    "top_k": _honoured(Integer(-1), "The k most likely tokens; 0 and -1: all."),
    "min_p": _honoured(Decimal(0, 1), "Tokens at least so likely, as a share of the likeliest."),
    "repetition_penalty": _honoured(
        Decimal(0.01, 10), "Divides the logits of what prompt and answer have said; 1: not."
    ),
    "min_tokens": _honoured(Integer(0), "Nothing ends the answer before; not with a format."),
    "ignore_eos": _honoured(Boolean(), "Writes on to max_tokens; not with a format."),
    "stop_token_ids": _honoured(
        Array(Integer(0, _MAX_TOKEN), 0, 256), "Ids of the local model's tokenizer."
    ),
    "include_stop_str_in_output": _honoured(Boolean(), "Keeps what stopped the answer."),
}
"""How tokens are drawn and what ends an answer."""

OTHERS: dict[str, Parameter] = {
    "priority": _harmless(Integer(), "Requests are taken in turn, short prompts first."),
    "request_id": _harmless(String(), "The header x-request-id names a request."),
    "cache_prompt": _harmless(Boolean(), "Prefixes are always cached."),
    "include_reasoning": _harmless(Boolean(), "The local model has no reasoning mode."),
    "skip_special_tokens": _refused(Boolean(), "Control tokens have no text.", True),
    "spaces_between_special_tokens": _refused(Boolean(), "Control tokens have no text.", True),
    "use_beam_search": _refused(Boolean(), "Answers are drawn token by token.", False),
    "length_penalty": _refused(Decimal(0, 100), "There is no beam search.", 1),
    "echo": _refused(Boolean(), "An answer is never preceded by its prompt.", False),
    "prompt_logprobs": _refused(Integer(), _NO_PROMPT_SCORES),
    "return_token_ids": _refused(Boolean(), "Ask for logprobs, which have bytes.", False),
    "return_tokens_as_token_ids": _refused(Boolean(), "Tokens are told as text and bytes.", False),
    "truncate_prompt_tokens": _refused(Integer(), "A prompt is never cut; shorten it yourself."),
    "allowed_token_ids": _refused(Array(Integer()), "Use logit_bias or structured_outputs."),
    "bad_words": _refused(Array(String()), "Use logit_bias or structured_outputs.", []),
}

CHAT_ONLY: dict[str, Parameter] = {
    "add_generation_prompt": _refused(Boolean(), _TEMPLATE, True),
    "continue_final_message": _refused(Boolean(), _TEMPLATE, False),
    "add_special_tokens": _refused(Boolean(), _TEMPLATE, False),
    "chat_template": _refused(String(), _TEMPLATE),
    "chat_template_kwargs": _refused(Json(), _TEMPLATE, {}, {"enable_thinking": False}),
}

EXTENSIONS: dict[str, Parameter] = {**SAMPLING, **STRUCTURED, **OTHERS, **CHAT_ONLY}
"""Of chat completions."""

TEXT_EXTENSIONS: dict[str, Parameter] = {
    **SAMPLING,
    **STRUCTURED,
    **{name: parameter for name, parameter in OTHERS.items() if name != "echo"},
}
"""Of completions, where `echo` is OpenAI's own."""


def extended(shape: Object, extensions: Mapping[str, Parameter]) -> Object:
    """A request of OpenAI's with these fields as well."""
    return Object({**shape.fields, **extensions})


@dataclass(frozen=True, slots=True)
class Extras:
    """What a request says beyond OpenAI's API. Defaults are no effect.

    `used` are the names of the honoured extensions that were sent.
    """

    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    used: tuple[str, ...] = ()

    @property
    def binds(self) -> bool:
        """Whether one of them binds the answer's text."""
        return any(name in STRUCTURED for name in self.used)


NO_EXTRAS = Extras()


def extras(body: Mapping[str, Any], form: Format, limit: int | None, calling: bool) -> Extras:
    """The extensions of a checked body whose answer is bound by `form` and has at most `limit`
    tokens; `calling`: it may call tools. Raises `InvalidRequest` for what does not go together.
    """
    used = tuple(name for name in (*SAMPLING, *STRUCTURED) if body.get(name) is not None)
    if not used:
        return NO_EXTRAS
    said = {name: body[name] for name in SAMPLING if body.get(name) is not None}
    said["top_k"] = max(0, said.get("top_k", 0))
    said["stop_token_ids"] = tuple(said.get("stop_token_ids", ()))
    _check(said, form, limit, calling)
    return Extras(**said, used=used)


def _check(said: Mapping[str, Any], form: Format, limit: int | None, calling: bool) -> None:
    for name in ("min_tokens", "ignore_eos"):
        if said.get(name) and (form.type != "text" or calling):
            raise values.conflict(
                name,
                f"'{name}' cannot be honoured where a format or tools decide how the answer ends; "
                "leave it out.",
                "invalid_parameter_combination",
            )
    if limit is not None and said.get("min_tokens", 0) > limit:
        raise values.conflict(
            "min_tokens",
            f"'min_tokens' ({said['min_tokens']}) is more than the answer may have ({limit}).",
        )
    if calling and form.type not in ("text", "json_object", "json_schema"):
        raise values.conflict(
            form.param,
            f"'{form.param}' and tools both bind the answer's text; set tool_choice to 'none' or "
            "leave one out.",
            "invalid_parameter_combination",
        )
