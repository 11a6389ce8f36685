"""The answer of the demo task: a FloorPlanAnalysis as a function of the plan, and of nothing else.

Copies, counts, comparisons and sentences out of a closed set. Because every field follows from the
input, the share of right fields on plans never seen measures what a model has learnt.
"""

from typing import Any

from finetune.demo.plans import AREA_RULE, Plan

Json = dict[str, Any]

STRENGTHS = {
    "daylight": "거실과 모든 침실에 창이 있어 채광이 좋습니다.",
    "circulation": "거실에서 여러 공간으로 바로 이어져 동선이 좋습니다.",
    "privacy": "현관이 거실이나 침실로 바로 열리지 않아 사생활이 지켜집니다.",
    "adequacy": "면적 기준에 미달하는 공간이 없습니다.",
}
REASONS = {
    (True, True): "면적이 모두 기준 이상입니다.",
    (True, False): "면적이 기준보다 작은 공간이 있습니다.",
    (False, True): "창의 수가 모두 기준 이상입니다.",
    (False, False): "창의 수가 기준보다 적은 공간이 있습니다.",
}


def analyse(plan: Plan) -> Json:
    """The analysis of `plan`, with its keys in the order of the schema."""
    spaces, criteria = plan["topology"]["spaces"], plan["context"]["criteria"]
    required = {c["kind"]: c["value"] for c in criteria if c["rule"] == AREA_RULE}
    rooms = [_room(space, required) for space in spaces]
    compliance = _compliance(rooms, criteria)
    evaluation = _evaluation(rooms, spaces)
    return {
        "plan_id": plan["topology"]["plan_id"],
        "rooms": rooms,
        "compliance": compliance,
        "design_evaluation": evaluation,
        "summary": _summary(rooms, evaluation["overall"], compliance["failed_count"]),
    }


def _room(space: Json, required: dict[str, float]) -> Json:
    least = required.get(space["kind"])
    return {
        **{key: space[key] for key in ("id", "kind", "windows", "name", "area_m2")},
        "required_m2": least,
        "verdict": _verdict(space["area_m2"], least),
        "doors": len(space["doors"]),
    }


def _verdict(area: float, least: float | None) -> str:
    if least is None:
        return "기준없음"
    return "적합" if area >= least else "미달"


def _compliance(rooms: list[Json], criteria: list[Json]) -> Json:
    items = [_item(rooms, criterion) for criterion in criteria]
    failed = sum(not item["passed"] for item in items)
    return {"items": items, "failed_count": failed, "compliant": failed == 0}


def _item(rooms: list[Json], criterion: Json) -> Json:
    by_area = criterion["rule"] == AREA_RULE
    actual = {
        room["id"]: room["area_m2"] if by_area else float(room["windows"])
        for room in rooms
        if room["kind"] == criterion["kind"]
    }
    checks = [
        {"room": room, "actual": value, "ok": value >= criterion["value"]}
        for room, value in actual.items()
    ]
    passed = all(check["ok"] for check in checks)
    reason = "해당 공간이 없습니다." if not checks else REASONS[by_area, passed]
    return {**criterion, "checks": checks, "passed": passed, "reason": reason}


def _evaluation(rooms: list[Json], spaces: list[Json]) -> Json:
    dark = [r for r in rooms if r["kind"] in {"거실", "침실"} and r["windows"] == 0]
    small = [r for r in rooms if r["verdict"] == "미달"]
    living = next(r for r in rooms if r["kind"] == "거실")
    entrance = next(s for s in spaces if s["kind"] == "현관")
    behind = {s["kind"] for s in spaces if s["id"] in entrance["doors"]}
    grades = {
        "daylight": "ABC"[min(len(dark), 2)],
        "circulation": "A" if living["doors"] >= 4 else "B" if living["doors"] == 3 else "C",
        "privacy": "C" if "침실" in behind else "B" if "거실" in behind else "A",
        "adequacy": "ABC"[min(len(small), 2)],
    }
    advised = [(room, "창을 두십시오.") for room in dark]
    advised += [(room, "면적을 기준 이상으로 넓히십시오.") for room in small]
    advised += [(living, "다른 공간으로 가는 문을 더하십시오.")] * (grades["circulation"] == "C")
    advised += [(entrance, "침실과의 사이에 복도를 두십시오.")] * (grades["privacy"] == "C")
    return {
        "dark_rooms": [room["id"] for room in dark],
        "daylight": grades["daylight"],
        "living_doors": living["doors"],
        "circulation": grades["circulation"],
        "entrance_doors": entrance["doors"],
        "privacy": grades["privacy"],
        "small_rooms": [room["id"] for room in small],
        "adequacy": grades["adequacy"],
        "overall": _overall(list(grades.values())),
        "strengths": [text for key, text in STRENGTHS.items() if grades[key] == "A"],
        "recommendations": [
            {"room": room["id"], "name": room["name"], "action": action} for room, action in advised
        ],
    }


def _overall(grades: list[str]) -> str:
    if grades.count("C") >= 2:
        return "C"
    return "A" if grades.count("A") >= 3 and "C" not in grades else "B"


def _summary(rooms: list[Json], overall: str, failed: int) -> Json:
    kinds = [room["kind"] for room in rooms]
    verdict = f"기준 {failed}건을 지키지 못했습니다." if failed else "모든 기준을 지켰습니다."
    return {
        "room_count": len(rooms),
        "bedroom_count": kinds.count("침실"),
        "bathroom_count": kinds.count("욕실"),
        "headline": f"종합 {overall}등급이며 {verdict}",
    }
