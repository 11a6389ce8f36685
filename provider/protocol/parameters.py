"""The one table of request parameters: shape, what this project does with it, and why.

Every field of OpenAI's request types is here, nested ones too; a test walks the official SDK's
types so that a new one cannot be forgotten. `CHAT` and `EMBEDDINGS` check request bodies, and
docs/compatibility.md is generated from them. "Honoured" means in effect in every answer, "refused"
a 400 naming the parameter, "harmless" accepted without effect on the answer and named in the
response header `x-ignored-params`.

Source: https://platform.openai.com/docs/api-reference/chat/create and .../embeddings/create.
"""

from __future__ import annotations

from provider.protocol import messages, toolspec
from provider.protocol.freeform import Json, Map
from provider.protocol.inputs import AnyInput
from provider.protocol.messages import NAME_PATTERN, TEXT
from provider.protocol.shapes import (
    Array,
    Boolean,
    Decimal,
    Either,
    Integer,
    Object,
    OneOf,
    Parameter,
    Shape,
    String,
    Tagged,
)

INT64 = 2**63

NO_AUDIO = "This model reads and writes text only."
NO_REASONING = "The local model has no reasoning mode; leave it out or send 'none'."
NO_WEB = "The local model does not search the web."
NO_MODERATION = "No moderation model runs here; call one yourself."
NO_STYLE = "The local model has no verbosity control; ask for length in the prompt."
CACHE = "Prefixes are always cached in memory and shared; nothing is to be steered."
IDENTITY = "Identifies an end user to the hosted provider's abuse monitoring; not used here."


def _honoured(shape: Shape, why: str = "", *, nullable: bool = True) -> Parameter:
    return Parameter(shape, why, nullable=nullable)


def _refused(shape: Shape, why: str, *neutral: object, nullable: bool = True) -> Parameter:
    return Parameter(shape, why, "refused", nullable=nullable, neutral=neutral)


def _harmless(shape: Shape, why: str, *neutral: object, nullable: bool = True) -> Parameter:
    return Parameter(shape, why, "harmless", nullable=nullable, neutral=neutral)


def _required(shape: Shape, why: str = "") -> Parameter:
    return Parameter(shape, why, required=True)


PREDICTION = Object(
    {
        "type": _required(OneOf(("content",))),
        "content": _required(
            Either({str: String(), list: Array(Tagged("type", {"text": Parameter(TEXT)}), 1)})
        ),
    }
)

JSON_SCHEMA = Object(
    {
        "name": _required(
            String(1, 64, NAME_PATTERN), "Identifies the format; not shown to the model."
        ),
        "description": _honoured(String(), "Shown to the model.", nullable=False),
        "schema": _honoured(
            Json(),
            "Every keyword is enforced while the text is written, or the request is refused "
            "naming keyword and path. Absent: any JSON object.",
            nullable=False,
        ),
        "strict": _honoured(Boolean(), "Enforced in full either way."),
    }
)

RESPONSE_FORMAT = Tagged(
    "type",
    {
        "json_object": Parameter(Object({"type": _required(String())}), "Any JSON object."),
        "json_schema": Parameter(
            Object({"type": _required(String()), "json_schema": _required(JSON_SCHEMA)}),
        ),
        "text": Parameter(Object({"type": _required(String())})),
    },
)

AUDIO = Object(
    {
        "format": _required(OneOf(("wav", "aac", "mp3", "flac", "opus", "pcm16"))),
        "voice": _required(Either({str: String(), dict: Object({"id": _required(String())})})),
    }
)

_POLICY = Object({"mode": _required(OneOf(("score", "block")))})
MODERATION = Object(
    {
        "model": _required(String()),
        "policy": _honoured(Object({"input": _honoured(_POLICY), "output": _honoured(_POLICY)})),
    }
)

_PLACE = Object({name: _honoured(String()) for name in ("city", "country", "region", "timezone")})
WEB_SEARCH = Object(
    {
        "search_context_size": _honoured(OneOf(("low", "medium", "high"))),
        "user_location": _honoured(
            Object({"type": _required(OneOf(("approximate",))), "approximate": _required(_PLACE)})
        ),
    }
)

CACHE_OPTIONS = Object(
    {
        "mode": _honoured(OneOf(("implicit", "explicit")), nullable=False),
        "ttl": _honoured(OneOf(("30m",)), nullable=False),
    }
)

STREAM_OPTIONS = Object(
    {
        "include_usage": _honoured(Boolean(), "One more chunk with the usage and no choices."),
        "include_obfuscation": _harmless(
            Boolean(), "Chunks are not padded; use TLS and a trusted network.", False
        ),
        "continuous_usage_stats": _honoured(
            Boolean(), "vLLM's: the usage so far in every chunk. Not OpenAI's."
        ),
    }
)

STOP = Either({str: String(1), list: Array(String(1), 1, 4)})

_EFFORTS = OneOf(("none", "minimal", "low", "medium", "high", "xhigh", "max"))
_TIERS = OneOf(("auto", "default", "flex", "scale", "priority", "fast"))

CHAT = Object(
    {
        "model": _required(
            String(1), "A served name, or one of MODEL_ALIASES; the answer names the real model."
        ),
        "messages": _required(Array(messages.MESSAGE, 1)),
        "n": _honoured(Integer(1, 128), "Further bounded by what the engine runs at once."),
        "max_tokens": _honoured(Integer(1), "Refused above LOCAL_LLM_MAX_NEW_TOKENS."),
        "max_completion_tokens": _honoured(Integer(1), "As max_tokens; not both."),
        "temperature": _honoured(Decimal(0, 2)),
        "top_p": _honoured(Decimal(0, 1)),
        "seed": _honoured(
            Integer(-INT64, INT64 - 1), "Same request and seed, same text (bit-exact in fp32)."
        ),
        "stop": _honoured(STOP, "Never part of the text."),
        "frequency_penalty": _honoured(Decimal(-2, 2)),
        "presence_penalty": _honoured(Decimal(-2, 2)),
        "logit_bias": _honoured(
            Map(Decimal(-100, 100)), "Token ids of the local model's tokenizer, not of OpenAI's."
        ),
        "logprobs": _honoured(
            Boolean(), "Of the model's own distribution, before constraint, temperature, penalties."
        ),
        "top_logprobs": _honoured(Integer(0, 20)),
        "response_format": _honoured(RESPONSE_FORMAT, nullable=False),
        "tools": _honoured(
            Array(toolspec.TOOL, 1, 128),
            "Described in the prompt; calls are constrained to the parameters' schema.",
            nullable=False,
        ),
        "tool_choice": _honoured(toolspec.TOOL_CHOICE, nullable=False),
        "parallel_tool_calls": _honoured(Boolean(), "False: at most one call.", nullable=False),
        "functions": _honoured(
            Array(toolspec.FUNCTION, 1, 128), "Deprecated spelling of tools.", nullable=False
        ),
        "function_call": _honoured(
            toolspec.FUNCTION_CALL, "Deprecated spelling of tool_choice.", nullable=False
        ),
        "stream": _honoured(Boolean()),
        "stream_options": _honoured(STREAM_OPTIONS),
        "prediction": _honoured(PREDICTION, "Used as a draft, verified token by token."),
        "metadata": _harmless(Map(String(0, 512), 16, 64), "Nothing is stored."),
        "store": _harmless(Boolean(), "Nothing is stored.", False),
        "user": _harmless(String(), IDENTITY, nullable=False),
        "safety_identifier": _harmless(String(), IDENTITY),
        "prompt_cache_key": _harmless(String(), CACHE),
        "prompt_cache_options": _harmless(CACHE_OPTIONS, CACHE, nullable=False),
        "prompt_cache_retention": _harmless(OneOf(("in_memory", "24h")), CACHE, "in_memory"),
        "service_tier": _harmless(
            _TIERS, "There is one tier, and the answer says `default`.", "auto", "default"
        ),
        "verbosity": _refused(OneOf(("low", "medium", "high")), NO_STYLE, "medium"),
        "reasoning_effort": _refused(_EFFORTS, NO_REASONING, "none"),
        "modalities": _refused(Array(OneOf(("text", "audio")), 1), NO_AUDIO, ["text"]),
        "audio": _refused(AUDIO, NO_AUDIO),
        "web_search_options": _refused(WEB_SEARCH, NO_WEB, nullable=False),
        "moderation": _refused(MODERATION, NO_MODERATION),
    }
)

EMBEDDINGS = Object(
    {
        "model": _required(String(1), "A served name, or one of MODEL_ALIASES."),
        "input": Parameter(
            AnyInput(),
            "Text, list of texts, or cl100k token ids (decoded where the encoding is at hand).",
            required=True,
        ),
        "dimensions": _honoured(
            Integer(1),
            "Only the space's own; anything else is refused, never truncated.",
            nullable=False,
        ),
        "encoding_format": _honoured(
            OneOf(("float", "base64")), "base64: little-endian float32.", nullable=False
        ),
        "user": _harmless(String(), IDENTITY, nullable=False),
    }
)

MODELS = Object({"model": _required(String(1), "In the path, percent-encoded or not.")})
