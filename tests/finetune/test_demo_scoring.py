"""Scoring: literal answers, literal scores."""

import json
from typing import Any

import pytest

from finetune.demo.scoring import score

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "rooms": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["name", "rooms"],
    "additionalProperties": False,
}
TRUTH = json.dumps({"name": "a", "rooms": [1, 2]})


def test_all_right_is_one_everywhere() -> None:
    result = score([TRUTH, TRUTH], [TRUTH, TRUTH], SCHEMA)
    assert (result.valid, result.exact, result.macro) == (1.0, 1.0, 1.0)
    assert result.fields == {"name": 1.0, "rooms[]": 1.0}


@pytest.mark.parametrize(
    ("rooms", "share"), [([1, 3], 0.5), ([1], 0.5), ([1, 2, 3], 2 / 3), ([], 0.0)]
)
def test_a_value_missing_or_one_too_many_is_wrong(rooms: list[int], share: float) -> None:
    result = score([json.dumps({"name": "a", "rooms": rooms})], [TRUTH], SCHEMA)
    assert result.valid == 1.0
    assert result.exact == 0.0
    assert result.fields["rooms[]"] == pytest.approx(share)
    assert result.macro == pytest.approx((1 + share) / 2)


@pytest.mark.parametrize("answer", ["", '{"name":"a"', '{"name":"a"}', '{"name":1,"rooms":[]}'])
def test_an_invalid_answer_scores_nothing(answer: str) -> None:
    result = score([answer], [TRUTH], SCHEMA)
    assert (result.valid, result.exact, result.macro) == (0.0, 0.0, 0.0)


def test_a_number_of_another_type_is_wrong() -> None:
    schema = {"type": "object", "properties": {"flag": {}}}
    result = score(['{"flag":1}'], ['{"flag":true}'], schema)
    assert (result.valid, result.macro) == (1.0, 0.0)


def test_null_is_a_value_and_absence_is_none() -> None:
    truth = json.dumps({"name": None})
    assert score([truth], [truth], {"type": "object"}).macro == 1.0
    assert score(["{}"], [truth], {"type": "object"}).macro == 0.0
    assert score(["not json"], [truth], {"type": "object"}).macro == 0.0


def test_two_empty_lists_say_nothing() -> None:
    empty = json.dumps({"name": "a", "rooms": []})
    assert score([empty], [empty], SCHEMA).fields == {"name": 1.0}
