"""A text completion request (`POST /v1/completions`), from JSON to frozen data.

OpenAI's older interface: a prompt as it is, without a chat template. What it shares with chat
completions (sampling, limits, formats) is a `ChatRequest` without messages.

Source: https://platform.openai.com/docs/api-reference/completions/create.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provider.protocol import values
from provider.protocol.chat import ChatRequest, shared
from provider.protocol.extensions import TEXT_EXTENSIONS, extended
from provider.protocol.inputs import AnyInput, Input, inputs
from provider.protocol.parameters import CHAT, RESPONSE_FORMAT
from provider.protocol.shapes import Boolean, Integer, Object, Parameter, String

DEFAULT_TOKENS = 16
"""OpenAI's limit where a request of this interface has none."""

_SHARED = (
    "frequency_penalty",
    "logit_bias",
    "n",
    "presence_penalty",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "user",
)

TEXTS = Object(
    {
        "model": CHAT.fields["model"],
        "prompt": Parameter(
            AnyInput(),
            "Text, several texts, or the local tokenizer's ids; control tokens count as such. Null "
            "(a text from nothing) is refused.",
            required=True,
            nullable=True,
        ),
        "max_tokens": Parameter(Integer(1), "16 where it is left out.", nullable=True),
        "logprobs": Parameter(Integer(0, 20), "OpenAI takes at most 5.", nullable=True),
        "echo": Parameter(
            Boolean(),
            "With logprobs: of the prompt too, computed 64 tokens at a time.",
            nullable=True,
        ),
        "best_of": Parameter(Integer(1, 20), "As many as `n`, or left out.", nullable=True),
        "suffix": Parameter(
            String(), "The local model does not fill in.", "refused", nullable=True, neutral=("",)
        ),
        **{name: CHAT.fields[name] for name in _SHARED},
    }
)

_REQUEST = extended(
    TEXTS, {**TEXT_EXTENSIONS, "response_format": Parameter(RESPONSE_FORMAT, nullable=True)}
)


@dataclass(frozen=True, slots=True)
class TextRequest:
    """`chat` is what both kinds of completion have; each prompt is answered `chat.n` times."""

    chat: ChatRequest
    prompts: tuple[Input, ...]
    echo: bool = False

    @property
    def scores_prompt(self) -> bool:
        """Whether log-probabilities of the prompt's tokens are asked for."""
        return self.echo and self.chat.logprobs is not None


def parse(body: Mapping[str, Any]) -> TextRequest:
    """The request that `body` asks for. Raises `InvalidRequest` naming the parameter."""
    ignored: list[str] = []
    _REQUEST.check(body, "", ignored.append)
    prompts = inputs(body["prompt"], "prompt")
    _check(body)
    chat = shared(body, (), ignored, logprobs=body.get("logprobs"))
    return TextRequest(chat, prompts, bool(body.get("echo")))


def _check(body: Mapping[str, Any]) -> None:
    if body.get("best_of") is not None and body["best_of"] != (body.get("n") or 1):
        raise values.unsupported_value(
            "best_of", body["best_of"], [body.get("n") or 1], "Every answer is returned."
        )
    if body.get("stream_options") is not None and not body.get("stream"):
        raise values.conflict(
            "stream_options",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        )
