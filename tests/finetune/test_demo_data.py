"""The demo data: deterministic, right, and the same for the app and for training."""

import ast
import json
from pathlib import Path
from random import Random

import pytest

from examples.floorplan.models import FloorPlanAnalysis
from finetune.demo.analysis import analyse
from finetune.demo.chat import IDENTITY_EN, IDENTITY_KO, PLAN_SYSTEM, random_chat
from finetune.demo.corpus import data_hash, heldout_plans, training_samples
from finetune.demo.forms import random_form
from finetune.demo.plans import Plan, kind_of, random_plan
from finetune.demo.schema import floorplan_schema
from finetune.demo.words import KEYS
from provider.protocol.serial import dumps

REPOSITORY = Path(__file__).parents[2]

PLAN: Plan = {
    "topology": {
        "plan_id": "FP-1",
        "spaces": [
            {"id": 1, "name": "현관", "area_m2": 3.0, "windows": 0, "kind": "현관"},
            {"id": 2, "name": "거실", "area_m2": 20.0, "windows": 2, "kind": "거실"},
            {"id": 3, "name": "침실1", "area_m2": 8.9, "windows": 0, "kind": "침실"},
            {"id": 4, "name": "침실2", "area_m2": 9.0, "windows": 1, "kind": "침실"},
        ],
        "connections": [
            {"from": "현관", "to": "거실", "via": "문"},
            {"from": "침실1", "to": "거실", "via": "문"},
            {"from": "현관", "to": "침실2", "via": "문"},
        ],
    },
    "context": {
        "use": "아파트",
        "residents": 2,
        "criteria": [
            {"criterion": 1, "rule": "최소면적", "kind": "침실", "value": 9.0},
            {"criterion": 2, "rule": "최소창수", "kind": "거실", "value": 1.0},
            {"criterion": 3, "rule": "최소면적", "kind": "서재", "value": 7.0},
        ],
    },
}


def test_every_field_follows_from_the_plan() -> None:
    answer = analyse(PLAN)
    assert [room["verdict"] for room in answer["rooms"]] == ["기준없음", "기준없음", "미달", "적합"]
    assert [room["connections"] for room in answer["rooms"]] == [2, 2, 1, 1]
    assert [room["required_m2"] for room in answer["rooms"]] == [None, None, 9.0, 9.0]
    assert [item["failed_rooms"] for item in answer["compliance"]["items"]] == [["침실1"], [], []]
    assert [item["reason"] for item in answer["compliance"]["items"]] == [
        "기준보다 작은 침실 공간이 있습니다.",
        "창의 수가 기준 이상입니다.",
        "서재 공간이 없어 적용하지 않습니다.",
    ]
    assert answer["compliance"]["failed_count"] == 1
    evaluation = answer["design_evaluation"]
    grades = ("daylight", "circulation", "privacy", "adequacy", "overall")
    assert [evaluation[key] for key in grades] == ["B", "C", "C", "B", "C"]
    assert evaluation["strengths"] == []
    assert evaluation["recommendations"] == [
        "침실1: 창을 두십시오.",
        "침실1: 면적을 9.0㎡ 이상으로 넓히십시오.",
        "거실에서 각 공간으로 가는 동선을 더하십시오.",
        "현관과 침실 사이에 복도를 두십시오.",
    ]
    assert answer["summary"] == {
        "room_count": 4,
        "bedroom_count": 2,
        "bathroom_count": 0,
        "headline": "종합 C등급이며 기준 1건을 지키지 못했습니다.",
    }


@pytest.mark.parametrize("seed", range(50))
def test_a_generated_plan_is_sound_and_its_answer_fits_the_model(seed: int) -> None:
    plan = random_plan(Random(seed))
    spaces = plan["topology"]["spaces"]
    names = [space["name"] for space in spaces]
    assert 6 <= len(names) == len(set(names)) <= 12
    assert [space["kind"] for space in spaces] == [kind_of(name) for name in names]
    reached, edges = {names[0]}, plan["topology"]["connections"]
    for _ in names:
        reached |= {
            n for e in edges if {e["from"], e["to"]} & reached for n in (e["from"], e["to"])
        }
    assert reached == set(names)
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
