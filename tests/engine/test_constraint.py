"""Constraints inside the engine: enforced, forced tokens taken, endings honest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from provider.engine.checkpoint import Checkpoint, load
from provider.engine.constraint import ConstraintState, GrammarCache
from provider.engine.engine import Engine
from provider.engine.limits import Limits
from provider.engine.request import GenerationRequest, Sampling
from provider.errors import InvalidRequest
from provider.protocol.schema import Constraint, compile, regex
from tests.engine.one_by_one import complete
from tests.engine.serving import Client, serve

SCHEMA = {
    "type": "object",
    "properties": {
        "room_name": {"enum": ["거실", "침실 1", "주방"]},
        "area_m2": {"type": "integer", "minimum": 1, "maximum": 99},
        "windows": {"type": "boolean"},
    },
    "required": ["room_name", "area_m2", "windows"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def checkpoint(exaone_folder: Path) -> Checkpoint:
    loaded = load(exaone_folder, device="cpu", dtype="fp32", progress=False)
    loaded.model.double()
    return loaded


@pytest.fixture(scope="module")
def engine(checkpoint: Checkpoint) -> Iterator[Engine]:
    engine = Engine(checkpoint, Limits(drafts=False))
    engine.start()
    yield engine
    engine.close()


def ask(checkpoint: Checkpoint, constraint: Constraint, **fields: Any) -> GenerationRequest:
    fields.setdefault("sampling", Sampling(temperature=0))
    fields.setdefault("max_tokens", 60)
    return GenerationRequest(
        tuple(checkpoint.tokenizer.encode("거실은 24.5, 주방은 11.0")),
        constraint=constraint,
        **fields,
    )


@pytest.mark.parametrize("seed", range(6))
def test_what_comes_out_is_valid(checkpoint: Checkpoint, engine: Engine, seed: int) -> None:
    request = ask(checkpoint, compile(SCHEMA), sampling=Sampling(2.0, seed=seed))
    client = serve(engine, [request])[0]
    assert client.reason() == "stop"
    jsonschema.validate(json.loads(client.text()), SCHEMA)


def test_forced_tokens_need_no_forward_pass(checkpoint: Checkpoint, engine: Engine) -> None:
    before = engine.stats()
    client = serve(engine, [ask(checkpoint, compile(SCHEMA))])[0]
    after = engine.stats()
    steps = after["steps"] - before["steps"]
    assert client.usage.completion > 1.5 * steps


@pytest.mark.parametrize("logprobs", [None, 1])
def test_the_figures_add_up(checkpoint: Checkpoint, engine: Engine, logprobs: int | None) -> None:
    """What clients are told and what is counted are the same, forced beginnings included."""
    before = engine.stats()
    sampling = Sampling(temperature=0, logprobs=logprobs)
    asked = [
        ask(checkpoint, compile(SCHEMA), sampling=sampling, n=2),
        ask(checkpoint, regex("abc")),
    ]
    clients = serve(engine, asked)
    after = engine.stats()
    told = sum(client.usage.completion for client in clients)
    assert after["generated_tokens"] - before["generated_tokens"] == told
    assert told > after["forced_tokens"] - before["forced_tokens"] > told / 4
    assert after["forward_rows"] - before["forward_rows"] < told or logprobs is not None


def test_forced_tokens_change_tokenisation_only(checkpoint: Checkpoint) -> None:
    """With and without them, greedy text agrees up to where the tokens do."""
    constraint = compile(SCHEMA)
    request = ask(checkpoint, constraint)
    engine = Engine(checkpoint, Limits(forced_tokens=False, drafts=False))
    engine.start()
    plain = serve(engine, [request])[0]
    free = complete(checkpoint.model, engine.vocabulary, request, force=False)
    forced = complete(checkpoint.model, engine.vocabulary, request)
    engine.close()
    assert plain.text() == free.text
    same = [a == b for a, b in zip(free.tokens, forced.tokens, strict=False)]
    common = free.tokens[: same.index(False) if False in same else len(same)]
    data = b"".join(engine.vocabulary.token_bytes[token] for token in common)
    assert free.text.encode().startswith(data)
    assert forced.text.encode().startswith(data)
    if False not in same:
        assert free.text == forced.text


def test_forced_tokens_are_how_the_tokenizer_writes_the_text(
    checkpoint: Checkpoint, engine: Engine
) -> None:
    state = ConstraintState(
        GrammarCache(engine.vocabulary.grammar).matcher(compile(SCHEMA)), engine.vocabulary.grammar
    )
    forced = state.forced()
    written = checkpoint.tokenizer.encode('{"room_name":"거실","area_m2":3,"windows":true}')
    assert forced == written[: len(forced)]
    assert len(forced) >= 2


def test_logprobs_of_forced_tokens_are_the_models(checkpoint: Checkpoint, engine: Engine) -> None:
    plain = ask(checkpoint, compile(SCHEMA))
    scored = ask(checkpoint, compile(SCHEMA), sampling=Sampling(0.0, logprobs=2))
    without, with_ = serve(engine, [plain, scored])
    assert without.text() == with_.text()
    assert b"".join(s.data for s in with_.logprobs).decode() == with_.text()
    assert without.usage.completion == with_.usage.completion == len(with_.logprobs)


@pytest.mark.parametrize("most", [1, 2, 10, 200])
def test_a_forced_text_longer_than_the_cache_is_scored_as_far_as_it_was_asked_for(
    checkpoint: Checkpoint, most: int
) -> None:
    """In steps of a bounded size: all at once it would never find a place, nor leave one."""
    text = " ".join(f"{number} 거실" for number in range(1500))
    engine = Engine(checkpoint, Limits(context_length=256, memory=8_000_000))
    engine.start()
    sampling = Sampling(temperature=0, logprobs=1)
    client = serve(engine, [ask(checkpoint, regex(text), sampling=sampling, max_tokens=most)])[0]
    stats = engine.stats()
    engine.close()
    assert stats["kv_budget"] < len(checkpoint.tokenizer.encode(text))
    assert stats["draft_tokens"] < most
    assert client.reason() == "length"
    assert len(client.logprobs) == most
    assert text.startswith(client.text().rstrip("\ufffd"))


@pytest.mark.parametrize("most", [1, 2, 5, 9])
def test_an_answer_cut_by_max_tokens_says_so(
    checkpoint: Checkpoint, engine: Engine, most: int
) -> None:
    client = serve(engine, [ask(checkpoint, compile(SCHEMA), max_tokens=most)])[0]
    assert client.reason() == "length"
    assert client.usage.completion == most


def test_a_grammar_with_one_sentence_needs_no_model(checkpoint: Checkpoint, engine: Engine) -> None:
    before = engine.stats()["steps"]
    client = serve(engine, [ask(checkpoint, regex("거실은 남향입니다"))])[0]
    assert client.text() == "거실은 남향입니다"
    assert client.reason() == "stop"
    assert engine.stats()["steps"] - before <= 4


def test_a_grammar_that_cannot_be_compiled_is_refused_at_once(
    checkpoint: Checkpoint, engine: Engine
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        engine.submit(ask(checkpoint, Constraint("start: nothing", "broken")), Client())
    assert refused.value.param == "response_format"


def test_grammars_are_compiled_once_and_forgotten_in_time(engine: Engine) -> None:
    cache = GrammarCache(engine.vocabulary.grammar, limit=2)
    first, second = compile(SCHEMA), regex("a+")
    for constraint in (first, second, first, regex("b+"), first, second):
        cache.matcher(constraint)
    assert (cache.hits, cache.misses) == (2, 4)
    one, two = cache.matcher(first), cache.matcher(first)
    assert one.consume_tokens(one.compute_ff_tokens())
    assert two.compute_ff_tokens() != []


def test_the_logits_beyond_the_tokenizer_are_never_drawn(
    checkpoint: Checkpoint, engine: Engine
) -> None:
    constraint = regex("[ -~가-힣]{20}")
    bias = tuple((token, 100.0) for token in range(480, 512))
    request = ask(checkpoint, constraint, sampling=Sampling(0.0, logit_bias=bias))
    assert len(serve(engine, [request])[0].text()) == 20


def test_one_token_is_permitted_where_the_mask_has_its_bit(
    checkpoint: Checkpoint, engine: Engine
) -> None:
    tokenizer = engine.vocabulary.grammar
    state = ConstraintState(GrammarCache(tokenizer).matcher(compile(SCHEMA)), tokenizer)
    written = checkpoint.tokenizer.encode('{"room_name":"거실","area_m2":3,"windows":true}')
    at = len(state.forced())
    while at < len(written):
        state.compute_mask()
        bits = np.unpackbits(state.mask, bitorder="little")
        permitted = [state.permits(t) for t in range(len(bits) + 40)]
        assert permitted == [*map(bool, bits), *[False] * 40]
        state.accept(written[at])
        at += 1 + len(state.forced())
