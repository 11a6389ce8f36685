"""Guesses: where they come from, when they stop, and that they never change an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from provider.engine.checkpoint import Checkpoint, load
from provider.engine.drafts import CostModel, Drafter, History, Lookup
from provider.engine.engine import Engine
from provider.engine.limits import Limits
from provider.engine.request import GenerationRequest, Sampling
from provider.protocol.schema import compile
from tests.engine.serving import serve


def test_lookup_prefers_the_longer_and_the_later_match() -> None:
    lookup = Lookup()
    lookup.add([1, 2, 3, 4, 50, 51])
    lookup.add([9, 9, 3, 4, 60, 61])
    assert lookup.after([1, 2, 3, 4], 8) == [50, 51]
    assert lookup.after([7, 7, 3, 4], 1) == [60]
    assert lookup.after([4, 3], 8) == []


def test_a_loop_is_guessed_to_go_on() -> None:
    lookup = Lookup()
    lookup.add([5, 1, 2, 3, 1, 2])
    assert lookup.after([1, 2], 7) == [3, 1, 2]
    assert lookup.after([1, 2], 7, loop=True) == [3, 1, 2, 3, 1, 2, 3]
    assert Drafter([5, *[1, 2, 3] * 3]).guess([5, *[1, 2, 3] * 3], 0.05, None)[0] == [1, 2, 3, 1, 2]


def test_the_prediction_comes_first_and_from_its_beginning() -> None:
    drafter = Drafter([1, 2, 3], prediction=[10, 11, 12, 13, 14])
    assert drafter.guess([1, 2, 3], 0.05, None) == ([10, 11, 12, 13, 14], True)
    assert drafter.guess([1, 2, 3, 10, 11], 0.05, None) == ([12, 13, 14], True)
    assert drafter.guess([1, 2, 3, 99, 11, 12], 0.05, None) == ([13, 14], True)


def test_history_is_of_one_format_and_bounded() -> None:
    history = History(formats=2, answers=4)
    for number in range(20):
        history.add(("a", 0), [number, 1, 2, 100 + number])
    history.add(("b", 0), [5, 6, 7])
    lookup = history.lookup(("a", 0))
    assert lookup is not None
    assert len(lookup.texts) <= 4
    assert Drafter([8]).guess([8, 19, 1, 2], 0.1, lookup) == ([119], False)
    assert history.lookup(("a", 1)) is None
    history.add(("c", 0), [5])
    assert history.lookup(("a", 0)) is None


def test_wrong_guesses_are_given_up_and_tried_again_now_and_then() -> None:
    drafter = Drafter([1, 2, 3, 4] * 4)
    tokens = [1, 2, 3, 4] * 4
    offered = []
    for _ in range(200):
        guess, _ = drafter.guess(tokens, 0.3, None)
        offered.append(len(guess))
        drafter.saw(len(guess), 0)
    assert offered[0] > 0
    assert sum(offered[5:]) <= 10
    assert any(offered[5:])


def test_the_threshold_follows_what_a_token_costs() -> None:
    cheap, dear = CostModel(), CostModel()
    for tokens in (1, 2, 4, 8) * 8:
        cheap.saw(tokens, 1, 0.030 + 0.0001 * tokens)
        dear.saw(tokens, 1, 0.002 + 0.010 * tokens)
    assert cheap.threshold < 0.05
    assert dear.threshold > 0.4


@pytest.fixture(scope="module")
def checkpoint(exaone_folder: Path) -> Checkpoint:
    loaded = load(exaone_folder, device="cpu", dtype="fp32", progress=False)
    loaded.model.double()
    return loaded


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_drafts_change_the_number_of_steps_and_nothing_else(
    checkpoint: Checkpoint, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CostModel, "threshold", 0.05)
    schema = {
        "type": "array",
        "items": {"enum": ["거실은 남향", "침실은 세 개", "주방"]},
        "minItems": 3,
        "maxItems": 6,
    }
    prompt = tuple(checkpoint.tokenizer.encode('["거실은 남향","침실은 세 개"]' * 3))
    results = []
    for drafts in (True, False):
        engine = Engine(checkpoint, Limits(drafts=drafts))
        engine.start()
        plain = GenerationRequest(prompt, Sampling(temperature, seed=3), 40)
        scored = GenerationRequest(prompt, Sampling(temperature, seed=3, logprobs=0), 40)
        first = serve(engine, [scored])[0]
        texts = [first.text()]
        written = tuple(score.token for score in first.logprobs)
        wanted = [
            plain,
            GenerationRequest(prompt, plain.sampling, 40, prediction=written),
            GenerationRequest(prompt, plain.sampling, 40, constraint=compile(schema)),
        ]
        for request in wanted * 2:
            client = serve(engine, [request])[0]
            texts.append(client.text())
            if drafts and request.prediction and temperature == 0:
                assert client.usage.accepted_prediction > 10
        results.append((texts, engine.stats()))
        engine.close()
    (fast, with_drafts), (slow, without) = results
    assert fast == slow
    assert with_drafts["draft_accepted"] > 0
    assert with_drafts["steps"] < without["steps"]
