"""Loops of constrained answers are ended; whatever does not repeat itself is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from provider.engine.checkpoint import Checkpoint, load
from provider.engine.constraint import ConstraintState, GrammarCache
from provider.engine.json_place import JsonPlace
from provider.engine.loops import SMALLEST, LoopGuard, nearly_cycles, period
from provider.engine.request import Sampling
from provider.engine.sampling import RowSampler
from provider.engine.vocabulary import Vocabulary
from provider.protocol.schema import Constraint, compile, regex

LIMIT = 64


@pytest.fixture(scope="module")
def vocabulary(exaone_folder: Path) -> Vocabulary:
    checkpoint: Checkpoint = load(exaone_folder, device="cpu", dtype="fp32", progress=False)
    return Vocabulary(checkpoint.tokenizer, 512)


def write(
    vocabulary: Vocabulary,
    constraint: Constraint,
    wish: Callable[[bytes], float],
    most: int = 6000,
    limit: int = LIMIT,
) -> tuple[str, bool]:
    """What a greedy writer says whose scores are `wish(token's bytes)`, and whether it ended."""
    scores = torch.tensor([wish(data) if data else -9.0 for data in vocabulary.token_bytes])
    state = ConstraintState(
        GrammarCache(vocabulary.grammar).matcher(constraint), vocabulary.grammar
    )
    guard = LoopGuard(limit, vocabulary.token_bytes, lambda: vocabulary.token_classes)
    sampler = RowSampler(Sampling(temperature=0), 0)
    tokens = state.forced()
    while not state.complete and len(tokens) < most:
        state.compute_mask()
        mask = guard.narrow(state.mask, tokens, 0)
        token = sampler.choose(scores, len(tokens), mask)
        if token in vocabulary.eos:
            break
        state.accept(token)
        tokens += [token, *state.forced()]
    text = b"".join(vocabulary.token_bytes[t] for t in tokens).decode("utf-8", "replace")
    return text, len(tokens) < most


def likes(*texts: str) -> Callable[[bytes], float]:
    wanted = {text.encode(): float(len(texts) - at) for at, text in enumerate(texts)}
    return lambda data: wanted.get(data, -float(len(data)))


def of_json(vocabulary: Vocabulary) -> Any:
    """A mask of all tokens that have no raw newline, which a JSON grammar never allows."""
    allowed = [b"\n" not in data for data in vocabulary.token_bytes]
    return np.packbits(np.asarray(allowed), bitorder="little")


def fields(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    "schema",
    [
        fields(note={"type": "string"}, other={"type": "string"}),
        fields(note={"type": "string", "minLength": 200}),
        fields(notes={"type": "array", "items": {"type": "string"}}),
        {"type": "object", "additionalProperties": {"type": "string"}},
        fields(rooms={"type": "array", "items": fields(name={"type": "string"})}),
        fields(
            rooms={"type": "array", "items": fields(**{n: {"type": "string"} for n in "abcdef"})}
        ),
    ],
)
def test_a_string_that_repeats_itself_is_closed(
    vocabulary: Vocabulary, schema: dict[str, Any]
) -> None:
    text, ended = write(vocabulary, compile(schema), likes("a", ",", '"', "{"))
    assert ended
    jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize(
    ("schema", "wish"),
    [
        (fields(grid={"type": "array", "items": {"type": "integer"}}), likes(",", "7")),
        (fields(number={"type": "number"}), likes("7", ".")),
        (fields(number={"type": "integer"}), likes("7")),
        (
            fields(rooms={"type": "array", "items": fields(ok={"type": "boolean"})}),
            likes(",", "{", "true", "t"),
        ),
        (
            fields(rows={"type": "array", "items": {"type": "array", "items": {"enum": [1]}}}),
            likes(",", "1", "["),
        ),
    ],
)
def test_numbers_and_lists_that_repeat_themselves_are_closed(
    vocabulary: Vocabulary, schema: dict[str, Any], wish: Callable[[bytes], float]
) -> None:
    text, ended = write(vocabulary, compile(schema), wish)
    assert ended
    jsonschema.validate(json.loads(text), schema)


def test_without_the_guard_it_never_ends(vocabulary: Vocabulary) -> None:
    schema = fields(note={"type": "string"})
    assert not write(vocabulary, compile(schema), likes("a"), most=600, limit=0)[1]


def test_a_character_that_is_half_written_is_finished_first(vocabulary: Vocabulary) -> None:
    half = "가".encode()[:1]
    text, ended = write(
        vocabulary,
        compile(fields(note={"type": "string"})),
        lambda data: 3.0 if data == half else 2.0 if data[:1] >= b"\x80" else -float(len(data)),
    )
    assert ended
    assert "�" not in json.loads(text)["note"]


def test_other_text_than_json_is_left_alone(vocabulary: Vocabulary) -> None:
    text, ended = write(vocabulary, regex(r"(.|\n)*"), likes("a"), most=600)
    assert not ended
    assert set(text) == {"a"}


def test_a_long_string_that_does_not_repeat_is_left_alone(vocabulary: Vocabulary) -> None:
    letters = [vocabulary.token_bytes.index(bytes([c])) for c in b"abcdefghijklmnopqrstuvwxyz"]
    chance = np.random.default_rng(0)
    tokens = [vocabulary.token_bytes.index(b'"')]
    guard = LoopGuard(LIMIT, vocabulary.token_bytes, lambda: vocabulary.token_classes)
    mask = of_json(vocabulary)
    for _ in range(2000):
        tokens.append(letters[chance.integers(26)])
        assert guard.narrow(mask, tokens, 0) is mask


def test_the_limit_halves_with_every_loop(vocabulary: Vocabulary) -> None:
    """A list whose strings all loop costs less and less."""
    schema = fields(notes={"type": "array", "items": {"type": "string"}, "minItems": 5})
    text, _ = write(vocabulary, compile(schema), likes("a", ",", '"'))
    lengths = [len(note) for note in json.loads(text)["notes"]]
    assert lengths[0] >= LIMIT
    assert all(length < SMALLEST + 32 for length in lengths[1:])


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(1, 5))
def test_the_period_is_the_smallest(tokens: list[int], times: int) -> None:
    text = tokens * times
    slow = next((p for p in range(1, len(text)) if text[p:] == text[:-p]), None)
    assert period(text) == slow


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
        max_leaves=10,
    ),
    st.data(),
)
def test_a_whole_text_ends_outside_of_everything(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=False).encode()
    place, at = JsonPlace(), 0
    while at < len(text):
        step = data.draw(st.integers(1, 5))
        place.feed(text[at : at + step])
        at += step
    assert not place.in_string
    assert place.depths[-1] == 0


def noisy(cycle: list[int], every: int, length: int) -> list[int]:
    """The cycle, with every n-th token another one."""
    text = (cycle * length)[:length]
    return [100 + at if at % every == every - 1 else token for at, token in enumerate(text)]


@pytest.mark.parametrize("cycle", [[7], [7, 8], [1, 2, 3, 1, 4]])
def test_a_cycle_that_is_broken_now_and_then_nearly_is_one(cycle: list[int]) -> None:
    assert nearly_cycles(noisy(cycle, 37, 128 + 2))
    assert not nearly_cycles(noisy(cycle, 8, 128 + 2))


@given(st.lists(st.integers(0, 60), min_size=128, max_size=128))
def test_what_is_drawn_at_random_does_not_nearly_cycle(tokens: list[int]) -> None:
    slow = any(
        sum(a == b for a, b in zip(tokens[p:], tokens, strict=False)) >= 0.9 * (128 - p)
        for p in range(1, 17)
    )
    assert nearly_cycles(tokens) <= slow


def test_a_string_that_sampling_keeps_breaking_out_of_its_loop_is_closed(
    vocabulary: Vocabulary,
) -> None:
    """A run of one letter, with another one every 40 tokens: no 64 of them are one cycle."""
    a, b, quote = (vocabulary.token_bytes.index(text) for text in (b"a", b"b", b'"'))
    guard = LoopGuard(LIMIT, vocabulary.token_bytes, lambda: vocabulary.token_classes)
    mask = of_json(vocabulary)
    tokens = [quote]
    while guard.narrow(mask, tokens, 0) is mask and len(tokens) < 600:
        tokens.append(b if len(tokens) % 40 == 0 else a)
    assert 2 * LIMIT <= len(tokens) <= 2 * LIMIT + 32
    left = np.flatnonzero(np.unpackbits(guard.narrow(mask, tokens, 0), bitorder="little"))
    assert {vocabulary.token_bytes[token][:1] for token in left} == {b'"'}
