"""Log-probabilities of an answer: each token's once, streamed or not, however pieces arrive."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from provider.engine.request import TokenLogprob
from provider.protocol.chunks import Chunks
from provider.protocol.completion import Answer, Head
from provider.protocol.deltas import Plain

HEAD = Head("chatcmpl-1", 1, "exaone-demo", "")
TOKENS = [TokenLogprob(5, "안".encode(), -0.5), TokenLogprob(1, b"", -3.0)]
PIECES = [
    [("안", TOKENS)],
    [("안", TOKENS[:1]), ("", TOKENS[1:])],
    [("", TOKENS[:0]), ("안", TOKENS[:1]), ("", TOKENS[1:]), ("", [])],
]


@pytest.mark.parametrize("pieces", PIECES)
def test_the_last_token_is_scored_even_without_text(pieces: list[Any]) -> None:
    answer = Answer(0, Plain(), logprobs=True)
    for text, scores in pieces:
        answer.grow(text, scores)
    answer.end("length")
    choice = answer.choice()
    assert choice["message"]["content"] == "안"
    assert [score["logprob"] for score in choice["logprobs"]["content"]] == [-0.5, -3.0]


@pytest.mark.parametrize("pieces", PIECES)
def test_a_stream_says_the_same(pieces: list[Any]) -> None:
    chunks = Chunks(HEAD, [Answer(0, Plain(), logprobs=True)], include_usage=False)
    said = [
        *itertools.chain.from_iterable(chunks.piece(0, text, scores) for text, scores in pieces),
        *chunks.finished(0, "length"),
    ]
    choices = [chunk["choices"][0] for chunk in said]
    scores = [
        score for choice in choices for score in (choice["logprobs"] or {}).get("content", [])
    ]
    assert [score["logprob"] for score in scores] == [-0.5, -3.0]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == "안"
    assert choices[-1]["finish_reason"] == "length"
    assert choices[-1]["delta"] == {}
