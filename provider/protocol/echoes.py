"""Fields that messages carry when they come back: answers have them, request types do not.

Apps append an answer to their messages as it is, with what their SDK, LiteLLM or vLLM put into it,
and OpenAI's chat models read over it. So do we: these fields pass, are not read, and are named in
`x-ignored-params`. Any other unknown field is refused.
"""

from __future__ import annotations

from provider.protocol.freeform import Anything
from provider.protocol.shapes import Integer, Object, OneOf, Parameter, Shape, String

MARKED = "Prefixes are cached without marks."
NAMED = "The call that it answers names the function."


def _passes(shape: Shape, why: str) -> Parameter:
    return Parameter(shape, why, "harmless", nullable=True)


_ANY = Anything()
_THOUGHT = "A model's thoughts are not shown to the next turn."
_READ = "What an SDK or a server added to the answer; the message says the same."

CACHE_MARK = {
    "cache_control": _passes(
        Object({"type": Parameter(OneOf(("ephemeral",))), "ttl": Parameter(String())}), MARKED
    )
}
"""Anthropic's marks, on messages and parts, as frameworks send them to every server."""

ASSISTANT = {
    "reasoning": _passes(_ANY, _THOUGHT),
    "reasoning_content": _passes(_ANY, _THOUGHT),
    "reasoning_details": _passes(_ANY, _THOUGHT),
    "thinking_blocks": _passes(_ANY, _THOUGHT),
    "parsed": _passes(_ANY, _READ),
    "provider_specific_fields": _passes(_ANY, _READ),
}
TOOL = {"name": _passes(String(), NAMED)}
CALL = {
    "index": _passes(Integer(0), "The order is that of the list."),
    "provider_specific_fields": _passes(_ANY, _READ),
}
CALLED = {
    "parsed_arguments": _passes(_ANY, _READ),
    "provider_specific_fields": _passes(_ANY, _READ),
}
