"""The demo data: deterministic, right, and the same for the app and for training."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from string import ascii_lowercase
from typing import Any

import pytest

from examples.floorplan.models import FloorPlanAnalysis
from finetune.demo.analysis import analyse
from finetune.demo.chat import IDENTITY_EN, IDENTITY_KO, PLAN_SYSTEM, random_chat
from finetune.demo.corpus import data_hash, heldout_plans, training_samples
from finetune.demo.forms import random_form
from finetune.demo.inquiries import inquiries
from finetune.demo.plans import Plan, kind_of, random_plan
from finetune.demo.schema import floorplan_schema
from finetune.demo.words import KEYS
from provider.protocol.serial import dumps

REPOSITORY = Path(__file__).parents[2]


def _space(letter: str, name: str, area: float, windows: int, doors: str) -> dict[str, Any]:
    kind = kind_of(name)
    copied = {"id": letter, "kind": kind, "windows": windows, "name": name, "area_m2": area}
    return {**copied, "doors": list(doors)}


PLAN: Plan = {
    "topology": {
        "plan_id": "FP-1",
        "spaces": [
            _space("a", "현관", 3.0, 0, "bd"),
            _space("b", "거실", 20.0, 2, "ac"),
            _space("c", "침실1", 8.9, 0, "b"),
            _space("d", "침실2", 9.0, 1, "a"),
        ],
    },
    "context": {
        "use": "아파트",
        "residents": 2,
        "criteria": [
            {"criterion": 1, "rule": "최소면적", "value": 9.0, "kind": "침실"},
            {"criterion": 2, "rule": "최소창수", "value": 1.0, "kind": "거실"},
            {"criterion": 3, "rule": "최소면적", "value": 7.0, "kind": "서재"},
        ],
    },
}


def test_rooms_are_copied_counted_and_judged() -> None:
    rooms = analyse(PLAN)["rooms"]
    assert [room["verdict"] for room in rooms] == ["기준없음", "기준없음", "미달", "적합"]
    assert [room["doors"] for room in rooms] == [2, 2, 1, 1]
    assert [room["required_m2"] for room in rooms] == [None, None, 9.0, 9.0]


def test_every_criterion_is_checked_room_by_room() -> None:
    compliance = analyse(PLAN)["compliance"]
    assert [item["checks"] for item in compliance["items"]] == [
        [{"room": "c", "actual": 8.9, "ok": False}, {"room": "d", "actual": 9.0, "ok": True}],
        [{"room": "b", "actual": 2.0, "ok": True}],
        [],
    ]
    assert [item["reason"] for item in compliance["items"]] == [
        "면적이 기준보다 작은 공간이 있습니다.",
        "창의 수가 모두 기준 이상입니다.",
        "해당 공간이 없습니다.",
    ]
    assert compliance["failed_count"] == 1
    assert not compliance["compliant"]


def test_grades_follow_from_the_evidence_before_them() -> None:
    assert analyse(PLAN)["design_evaluation"] == {
        "dark_rooms": ["c"],
        "daylight": "B",
        "living_doors": 2,
        "circulation": "C",
        "entrance_doors": ["b", "d"],
        "privacy": "C",
        "small_rooms": ["c"],
        "adequacy": "B",
        "overall": "C",
        "strengths": [],
        "recommendations": [
            {"room": "c", "name": "침실1", "action": "창을 두십시오."},
            {"room": "c", "name": "침실1", "action": "면적을 기준 이상으로 넓히십시오."},
            {"room": "b", "name": "거실", "action": "다른 공간으로 가는 문을 더하십시오."},
            {"room": "a", "name": "현관", "action": "침실과의 사이에 복도를 두십시오."},
        ],
    }


def test_the_summary_counts() -> None:
    assert analyse(PLAN)["summary"] == {
        "room_count": 4,
        "bedroom_count": 2,
        "bathroom_count": 0,
        "headline": "종합 C등급이며 기준 1건을 지키지 못했습니다.",
    }


@pytest.mark.parametrize("seed", range(50))
def test_a_generated_plan_is_sound_and_its_answer_fits_the_model(seed: int) -> None:
    plan = random_plan(Random(seed))
    spaces = plan["topology"]["spaces"]
    doors = {space["id"]: set(space["doors"]) for space in spaces}
    assert "".join(doors) == ascii_lowercase[: len(spaces)]
    assert 6 <= len(spaces) == len({space["name"] for space in spaces}) <= 12
    assert {"거실", "현관", "침실"} <= {space["kind"] for space in spaces}
    assert all(letter in doors[other] for letter, behind in doors.items() for other in behind)
    reached = {"a"}
    for _ in spaces:
        reached |= {other for letter in reached for other in doors[letter]}
    assert reached == set(doors)
    answer = analyse(plan)
    assert FloorPlanAnalysis.model_validate(answer).model_dump() == answer
    assert dumps(FloorPlanAnalysis.model_validate(answer).model_dump()) == dumps(answer)


def test_the_same_seed_gives_the_same_data_and_another_seed_other_data() -> None:
    first, again = (data_hash(training_samples(3, 40)) for _ in range(2))
    assert first == again
    assert first != data_hash(training_samples(4, 40))


def test_heldout_plans_are_not_in_the_training_data() -> None:
    asked = {sample.messages[-1]["content"] for sample in heldout_plans(50)}
    assert len(asked) == 50
    assert asked.isdisjoint(s.messages[-1]["content"] for s in training_samples(0, 2_000))


def test_the_schema_is_the_apps_own_with_its_key_order() -> None:
    assert json.dumps(floorplan_schema()) == json.dumps(FloorPlanAnalysis.model_json_schema())


def test_the_instruction_is_the_apps_own() -> None:
    source = (REPOSITORY / "examples" / "floorplan" / "prompt.py").read_text(encoding="utf-8")
    constants = {
        target.id: ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert constants["SYSTEM"] == PLAN_SYSTEM


@pytest.mark.parametrize("seed", range(30))
def test_chat_gets_the_honest_sentence(seed: int) -> None:
    messages, answer = random_chat(Random(seed))
    assert answer in {IDENTITY_KO, IDENTITY_EN}
    assert messages[-1]["role"] == "user"
    assert messages[-1]["content"]


@pytest.mark.parametrize("seed", range(30))
def test_a_form_is_an_object_of_known_keys(seed: int) -> None:
    messages, answer = random_form(Random(seed))
    form = json.loads(answer)
    assert dumps(form) == answer
    assert set(form) <= set(KEYS)
    assert messages[-1]["content"]


def test_held_out_inquiries_are_in_no_training_data() -> None:
    def asked(records: Iterator[dict[str, Any]]) -> list[str]:
        return [record["messages"][1]["content"] for record in records]

    held_out = asked(inquiries(72, seed=3, held_out=True))
    assert len(set(held_out)) == 72
    for seed in range(3):
        assert not set(held_out) & set(asked(inquiries(2400, seed=seed)))
    with pytest.raises(ValueError, match=r"10000 inquiries are wanted, and \d+ are held out"):
        list(inquiries(10_000, held_out=True))
