"""Guesses: where they come from, when they stop, and that they never change an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from provider.engine.checkpoint import Checkpoint, load
from provider.engine.costs import CostModel
from provider.engine.drafts import Drafter, Lookup
from provider.engine.engine import Engine
from provider.engine.habits import Habits, History
from provider.engine.limits import Limits
from provider.engine.request import GenerationRequest, Sampling
from provider.protocol.schema import compile
from tests.engine.serving import serve


def guessed(
    drafter: Drafter, tokens: list[int], floor: float, habits: Habits | None = None
) -> tuple[list[int], bool]:
    """The tokens alone."""
    guesses, predicted = drafter.guess(tokens, floor, habits)
    assert [likely for _, likely in guesses] == sorted((p for _, p in guesses), reverse=True)
    return [token for token, _ in guesses], predicted


def test_lookup_prefers_the_longer_and_the_later_match() -> None:
    lookup = Lookup([1, 2, 3, 4, 50, 9, 9, 3, 4, 60, 61])
    assert lookup.find([1, 2, 3, 4]) == (4, 4)
    assert lookup.find([7, 7, 3, 4]) == (9, 2)
    assert lookup.find([4, 3]) is None


def test_a_loop_is_guessed_to_go_on() -> None:
    prompt = [5, *[1, 2, 3] * 3]
    assert guessed(Drafter(prompt), prompt, 0.05) == ([1, 2, 3, 1, 2], False)


def test_the_prediction_comes_first_and_from_its_beginning() -> None:
    drafter = Drafter([1, 2, 3], prediction=[10, 11, 12, 13, 14])
    assert guessed(drafter, [1, 2, 3], 0.05) == ([10, 11, 12, 13, 14], True)
    assert guessed(drafter, [1, 2, 3, 10, 11], 0.05) == ([12, 13, 14], True)
    assert guessed(drafter, [1, 2, 3, 10, 11, 99, 11, 12], 0.05) == ([13, 14], True)


def test_a_prediction_is_trusted_as_far_as_it_came_true() -> None:
    """Of one that was left, what comes back to it is noticed without offering it again."""
    prediction = list(range(10, 60))
    drafter, tokens = Drafter([1, 2, 3], prediction), [1, 2, 3]
    offered = []
    for token in [*prediction[:20], *[14, 15, 99] * 8, *prediction[20:]]:
        guess, predicted = drafter.guess(tokens, 0.3, None)
        offered.append(len(guess) if predicted else 0)
        tokens.append(token)
    assert offered[19] > offered[0] > 0
    assert max(offered[38:44]) < 3
    assert offered[-3] >= 2


def test_habits_are_as_likely_as_they_were_kept() -> None:
    habits = Habits()
    for number in range(12):
        answer = [1, 2, 3, 4, 5, 6, 7, 100 + number, 8, 9]
        for at in range(len(answer)):
            habits.learn(answer, at)
    sure, unsure = habits.next([1, 2, 3, 4, 5, 6]), habits.next([2, 3, 4, 5, 6, 7])
    assert sure is not None
    assert sure[0] == 7
    assert sure[1] > 0.95
    assert unsure is not None
    assert unsure[1] <= 0.5
    assert habits.next([1, 1, 1]) is None
    assert guessed(Drafter([1, 2, 3]), [1, 2, 3, 4], 0.7, habits) == ([5, 6, 7], False)


def test_habits_are_of_one_format_and_bounded() -> None:
    history = History(formats=2)
    history.habits(("a", 0)).learn([1, 2, 3, 4], 3)
    assert history.habits(("a", 0)).next([1, 2, 3]) == (4, 0.5)
    assert history.habits(("a", 1)).next([1, 2, 3]) is None
    history.habits(("c", 0))
    assert len(history) == 2
    assert history.habits(("a", 0)).next([1, 2, 3]) is None
    habits = Habits(limit=100)
    for number in range(1000):
        habits.learn([number] * 7, 6)
    assert len(habits) <= 100
    assert habits.next([999] * 6) == (999, 0.5)


def test_wrong_guesses_are_given_up() -> None:
    prompt = [1, 2, 3, 4] * 4
    drafter = Drafter(prompt)
    tokens, offered = list(prompt), []
    for number in range(200):
        guess, _ = drafter.guess(tokens, 0.3, None)
        offered.append(len(guess))
        tokens += [1, 2, 3, 10 + number]  # what followed 1, 2, 3 never does again
    assert offered[0] > 0
    assert sum(offered[20:]) < sum(offered[:3]) * 4


@pytest.fixture(scope="module")
def checkpoint(exaone_folder: Path) -> Checkpoint:
    loaded = load(exaone_folder, device="cpu", dtype="fp32", progress=False)
    loaded.model.double()
    return loaded


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_drafts_change_the_number_of_steps_and_nothing_else(
    checkpoint: Checkpoint, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CostModel, "price", lambda *_: 0.0)
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
