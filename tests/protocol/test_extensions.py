"""Parameters of other servers: honoured exactly, passed where they ask for nothing, or refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
from llguidance import LLTokenizer

from provider.errors import InvalidRequest
from provider.protocol.chat import ChatRequest, parse
from provider.protocol.constraints import constraint
from provider.protocol.dialect import extended
from provider.protocol.extensions import EXTENSIONS
from provider.protocol.parameters import CHAT
from provider.protocol.portability import findings

BASE: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
TOOL = {"type": "function", "function": {"name": "f"}}


def asked(**more: Any) -> ChatRequest:
    return parse({**BASE, **more})


def refusal(**more: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        constraint(asked(**more))
    return caught.value


def writes(tokenizer: LLTokenizer, **more: Any) -> set[str]:
    """Texts that the constraint of a request lets through, written byte by byte at random."""
    bound = constraint(asked(**more))
    assert bound is not None
    return {_written(bound.matcher(tokenizer), random.Random(seed)) for seed in range(24)}


def _written(matcher: Any, chance: random.Random) -> str:
    text = bytearray()
    while not matcher.is_stopped():
        mask = matcher.compute_bitmask()
        byte = chance.choice([at for at in range(256) if mask[at >> 3] >> (at & 7) & 1])
        assert matcher.consume_token(byte)
        text.append(byte)
    return text.decode()


@pytest.fixture(scope="module")
def tokenizer() -> LLTokenizer:
    return LLTokenizer("byte")


def test_no_extension_is_a_parameter_of_openais() -> None:
    assert not set(EXTENSIONS) & set(CHAT.fields)


def test_sampling() -> None:
    extras = asked(top_k=40, min_p=0.05, repetition_penalty=1.1, stop_token_ids=[3, 5]).extras
    assert (extras.top_k, extras.min_p, extras.repetition_penalty) == (40, 0.05, 1.1)
    assert extras.stop_token_ids == (3, 5)
    assert asked(top_k=-1).extras.top_k == asked(top_k=0).extras.top_k == 0
    assert asked(top_k=None, min_p=None, guided_json=None).extras == asked().extras


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"top_k": -2}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"min_p": 1.1}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"stop_token_ids": ["a"]}, "stop_token_ids[0]"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
        ({"ignore_eos": True, "guided_choice": ["a"]}, "ignore_eos"),
        ({"min_tokens": 1, "tools": [TOOL]}, "min_tokens"),
        ({"prompt_logprobs": 1}, "prompt_logprobs"),
        ({"use_beam_search": True}, "use_beam_search"),
        ({"chat_template": "{{ x }}"}, "chat_template"),
        ({"chat_template_kwargs": {"enable_thinking": True}}, "chat_template_kwargs"),
        ({"mirostat": 2}, "mirostat"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(more: dict[str, Any], param: str) -> None:
    assert refusal(**more).param == param


def test_what_asks_for_nothing_passes() -> None:
    quiet = {
        "use_beam_search": False,
        "skip_special_tokens": True,
        "add_generation_prompt": True,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    request = asked(**quiet)
    assert (request.ignored, findings(request)) == ((), ())
    assert asked(priority=1, cache_prompt=True).ignored == ("priority", "cache_prompt")


@pytest.mark.parametrize(
    ("more", "texts"),
    [
        ({"guided_choice": ["a", "(b|c)", "ä & ~"]}, {"a", "(b|c)", "ä & ~"}),
        ({"structured_outputs": {"choice": ["예"]}}, {"예"}),
        ({"guided_regex": "x|yy"}, {"x", "yy"}),
        ({"regex": "x"}, {"x"}),
        ({"structured_outputs": {"regex": "[xy]"}}, {"x", "y"}),
        ({"grammar": 'root ::= a | "b"\na ::= "a" "c"'}, {"ac", "b"}),
        ({"ebnf": 'root ::= "q"'}, {"q"}),
        ({"guided_grammar": 'start: "l" "m" | "n"'}, {"lm", "n"}),
        ({"guided_json": {"enum": ["a", ["b"]]}}, {'"a"', '["b"]'}),
        ({"guided_json": '{"const": true}'}, {"true"}),
        ({"json_schema": {"const": None}}, {"null"}),
        ({"structured_outputs": {"json": {"const": {"a": "b"}}}}, {'{"a":"b"}'}),
    ],
)
def test_bound_text(tokenizer: LLTokenizer, more: dict[str, Any], texts: set[str]) -> None:
    assert writes(tokenizer, **more) == texts


def test_any_object_needs_no_word_in_the_messages(tokenizer: LLTokenizer) -> None:
    bound = constraint(asked(structured_outputs={"json_object": True}))
    assert bound is not None
    matcher: Any = bound.matcher(tokenizer)
    assert matcher.consume_tokens(list(b'{"a":1}'))
    assert asked(structured_outputs={"json_object": False}).format.type == "text"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"guided_regex": "("}, "guided_regex"),
        ({"guided_regex": "(?=a)a"}, "guided_regex"),
        ({"guided_regex": "a" * 70_000}, "guided_regex"),
        ({"grammar": "root ::= missing"}, "grammar"),
        ({"grammar": "no grammar"}, "grammar"),
        ({"grammar": 'root ::= "' + "(" * 5_000}, "grammar"),
        ({"grammar": "root ::= " + "(" * 5_000}, "grammar"),
        ({"structured_outputs": {"grammar": "start: missing"}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": "[]"}, "guided_json"),
        ({"guided_json": {"type": "car"}}, "guided_json"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_choice": ["a"], "guided_regex": "b"}, "guided_regex"),
        ({"guided_regex": "b", "response_format": {"type": "json_object"}}, "guided_regex"),
        ({"guided_regex": "b", "tools": [TOOL]}, "guided_regex"),
    ],
)
def test_what_cannot_bind_is_refused_by_name(more: dict[str, Any], param: str) -> None:
    assert refusal(**more).param == param


def test_every_use_is_reported_as_not_portable() -> None:
    found = findings(asked(top_k=3, guided_json={"type": "array"}))
    assert [finding.param for finding in found] == ["top_k", "guided_json"]


def test_how_other_servers_are_told() -> None:
    def told(maker: str, **more: Any) -> dict[str, Any]:
        return extended(more, asked(**more), maker)

    assert told("me", guided_json={"type": "array"})["response_format"]["type"] == "json_schema"
    choice = told("vllm", guided_choice=["a", "b"], top_k=2)
    assert choice["structured_outputs"] == {"choice": ["a", "b"]}
    assert choice["top_k"] == 2
    assert told("me", temperature=1) == {"temperature": 1}
    for more in ({"top_k": 2}, {"guided_regex": "a"}, {"min_p": 0.1, "guided_json": {}}):
        with pytest.raises(InvalidRequest, match="LOCAL_LLM_BASE_URL"):
            told("llamacpp", **more)
