"""The table of a Responses request's parameters: shape, what is done with each, and why.

As `provider.protocol.parameters`, for POST /v1/responses and POST /v1/responses/input_tokens. Null
means "not given" everywhere but in `model` and `input`, as with OpenAI.
Source: https://platform.openai.com/docs/api-reference/responses/create.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from provider.protocol.freeform import Json, Map
from provider.protocol.messages import NAME_PATTERN
from provider.protocol.parameters import (
    CACHE,
    IDENTITY,
    INT64,
    MODERATION,
    NO_MODERATION,
    NO_REASONING,
    NO_STYLE,
)
from provider.protocol.responses.items import INPUT
from provider.protocol.responses.tools import TOOL, TOOL_CHOICE
from provider.protocol.shapes import (
    Array,
    Boolean,
    Decimal,
    Either,
    Integer,
    Note,
    Object,
    OneOf,
    Parameter,
    Shape,
    String,
    Tagged,
)

LOGPROBS = "message.output_text.logprobs"

NO_BACKGROUND = "Answers are given to the caller who waits for them; leave it out, or stream."
NO_CONVERSATIONS = "No conversations are kept here; use 'previous_response_id', or send the items."
NO_TEMPLATES = "Prompt templates are kept by OpenAI; send the text as 'instructions' and 'input'."
NO_COMPACTION = "Nothing is compacted here; 'truncation: auto' drops what does not fit."
NO_BUILT_IN = "There are no built-in tools whose calls could be counted."


def _honoured(shape: Shape, why: str = "") -> Parameter:
    return Parameter(shape, why, nullable=True)


def _refused(shape: Shape, why: str, *neutral: object) -> Parameter:
    return Parameter(shape, why, "refused", nullable=True, neutral=neutral)


def _harmless(shape: Shape, why: str, *neutral: object) -> Parameter:
    return Parameter(shape, why, "harmless", nullable=True, neutral=neutral)


@dataclass(frozen=True)
class Include:
    """What an answer may have beside itself; all but the log-probabilities belong to tools that do
    not run here, or to thoughts."""

    names: tuple[str, ...] = (
        "file_search_call.results",
        "web_search_call.results",
        "web_search_call.action.sources",
        "message.input_image.image_url",
        "computer_call_output.output.image_url",
        "code_interpreter_call.outputs",
        "reasoning.encrypted_content",
        LOGPROBS,
    )

    @property
    def expected(self) -> str:
        return OneOf(self.names).expected

    def check(self, value: Any, path: str, note: Note) -> None:
        OneOf(self.names).check(value, path, note)
        if value != LOGPROBS:
            note(f"{path}{{{value}}}")


_TYPE = Parameter(String(), required=True)
FORMAT = Tagged(
    "type",
    {
        "json_object": Parameter(Object({"type": _TYPE}), "Any JSON object."),
        "text": Parameter(Object({"type": _TYPE})),
        "json_schema": Parameter(
            Object(
                {
                    "type": _TYPE,
                    "name": Parameter(
                        String(1, 64, NAME_PATTERN),
                        "Identifies the format; not shown to the model.",
                        required=True,
                    ),
                    "schema": Parameter(
                        Json(),
                        "As in the chat API's `response_format`.",
                        required=True,
                    ),
                    "description": _honoured(String(), "Shown to the model."),
                    "strict": _honoured(Boolean(), "As in the chat API's `response_format`."),
                }
            )
        ),
    },
)
TEXT = Object(
    {
        "format": _honoured(FORMAT),
        "verbosity": _honoured(
            OneOf(("low", "medium", "high")),
            "`low` and `high` ask for it in the system message. (`gpt-4o-mini` takes `medium`.)",
        ),
    }
)

_EFFORTS = OneOf(("none", "minimal", "low", "medium", "high", "xhigh", "max"))
_SUMMARIES = OneOf(("auto", "concise", "detailed"))
_NO_THOUGHTS = "There are no thoughts that could be summed up or carried on."
REASONING = Object(
    {
        "effort": _refused(_EFFORTS, NO_REASONING, "none"),
        "summary": _harmless(_SUMMARIES, _NO_THOUGHTS),
        "generate_summary": _harmless(_SUMMARIES, _NO_THOUGHTS),
        "context": _harmless(OneOf(("auto", "current_turn", "all_turns")), _NO_THOUGHTS),
        "mode": _refused(OneOf(("standard", "pro")), NO_REASONING, "standard"),
    }
)

_FREE = Parameter(String(), nullable=True)
CONVERSATION: Shape = Either({str: String(), dict: Object({"id": _TYPE})})
_CACHE_OPTIONS = Object(
    {
        "mode": _honoured(OneOf(("implicit", "explicit"))),
        "ttl": _honoured(OneOf(("30m", "12h"))),
        "comparison_response_id": _FREE,
        "prewarm": _refused(Boolean(), "Send the request itself; its prefix is kept.", False),
    }
)
_TIERS = OneOf(("auto", "default", "flex", "scale", "priority", "fast", "ultrafast"))

RESPONSES = Object(
    {
        "model": Parameter(
            String(1),
            "A served name, or one of MODEL_ALIASES; the answer names the real model.",
            required=True,
        ),
        "input": Parameter(INPUT, "Text, or items.", required=True),
        "instructions": _honoured(
            String(), "The first system message; not inherited by the next response."
        ),
        "previous_response_id": _honoured(
            String(1), "A response that is still kept (LOCAL_RESPONSES_KEPT), made by this key."
        ),
        "store": _honoured(
            Boolean(),
            "True unless said otherwise: kept in this process's memory (LOCAL_RESPONSES_KEPT), "
            "until it is deleted, makes room, or the process ends.",
        ),
        "include": _honoured(
            Array(Include()), f"`{LOGPROBS}`; what belongs to other tools is harmless."
        ),
        "text": _honoured(TEXT),
        "tools": _honoured(
            Array(TOOL, 0, 128),
            "Described in the prompt; calls are constrained to the parameters' schema.",
        ),
        "tool_choice": _honoured(TOOL_CHOICE),
        "parallel_tool_calls": _honoured(Boolean(), "False: at most one call."),
        "max_output_tokens": _honoured(Integer(16), "Refused above LOCAL_LLM_MAX_NEW_TOKENS."),
        "max_tool_calls": _harmless(Integer(1), NO_BUILT_IN),
        "temperature": _honoured(Decimal(0, 2)),
        "top_p": _honoured(Decimal(0, 1)),
        "presence_penalty": _honoured(Decimal(-2, 2), "Not in the SDK's types; OpenAI takes it."),
        "frequency_penalty": _honoured(Decimal(-2, 2), "Not in the SDK's types; OpenAI takes it."),
        "top_logprobs": _honoured(
            Integer(0, 20),
            "Of the model's own distribution, before constraint, temperature, penalties.",
        ),
        "truncation": _honoured(
            OneOf(("auto", "disabled")),
            "`auto`: the oldest items are left out, a call with its output, until the rest fits; "
            "instructions and the newest item stay.",
        ),
        "metadata": _honoured(Map(String(0, 512), 16, 64), "Kept with the response."),
        "stream": _honoured(Boolean()),
        "stream_options": _honoured(
            Object(
                {
                    "include_obfuscation": _harmless(
                        Boolean(), "Deltas are not padded; use TLS and a trusted network.", False
                    )
                }
            )
        ),
        "user": _harmless(String(), IDENTITY),
        "safety_identifier": _harmless(String(), IDENTITY),
        "prompt_cache_key": _harmless(String(), CACHE),
        "prompt_cache_options": _harmless(_CACHE_OPTIONS, CACHE),
        "prompt_cache_retention": _harmless(OneOf(("in_memory", "24h")), CACHE, "in_memory"),
        "service_tier": _harmless(
            _TIERS, "There is one tier, and the answer says `default`.", "auto", "default"
        ),
        "image": _harmless(
            Object({"context_compression": _honoured(OneOf(("auto", "enabled", "disabled")))}),
            "There are no images to compress.",
        ),
        "reasoning": _honoured(REASONING),
        "background": _refused(Boolean(), NO_BACKGROUND, False),
        "conversation": _refused(CONVERSATION, NO_CONVERSATIONS),
        "prompt": _refused(
            Object({"id": _TYPE, "variables": _honoured(Json()), "version": _FREE}), NO_TEMPLATES
        ),
        "context_management": _refused(
            Array(Object({"type": _TYPE, "compact_threshold": _honoured(Integer(1, INT64))})),
            NO_COMPACTION,
            [],
        ),
        "moderation": _refused(MODERATION, NO_MODERATION),
        "access_programs": _refused(
            Object({"cyber": _FREE}), "Access programs are OpenAI's; leave it out."
        ),
    }
)

_COUNTED = (
    "model",
    "input",
    "instructions",
    "previous_response_id",
    "conversation",
    "text",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "truncation",
)
INPUT_TOKENS = Object(
    {
        **{name: RESPONSES.fields[name] for name in _COUNTED},
        "input": replace(RESPONSES.fields["input"], required=False, nullable=True),
        "personality": _refused(String(), NO_STYLE),
    }
)
