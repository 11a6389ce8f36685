"""The answer of the demo task: a FloorPlanAnalysis as a function of the plan, and of nothing else.

Copies, counts, comparisons and sentences out of a closed set. Because every field follows from the
input, the share of right fields on plans never seen measures what a model has learnt.
"""

from typing import Any

from finetune.demo.plans import AREA_RULE, Plan, kind_of

Json = dict[str, Any]

STRENGTHS = {
    "daylight": "거실과 모든 침실에 창이 있어 채광이 좋습니다.",
    "circulation": "거실에서 여러 공간으로 바로 이어져 동선이 좋습니다.",
    "privacy": "현관이 거실이나 침실로 바로 열리지 않아 사생활이 지켜집니다.",
    "adequacy": "면적 기준에 미달하는 공간이 없습니다.",
}


def analyse(plan: Plan) -> Json:
    """The analysis of `plan`, with its keys in the order of the schema."""
    topology, criteria = plan["topology"], plan["context"]["criteria"]
    required = {c["kind"]: c["value"] for c in criteria if c["rule"] == AREA_RULE}
    edges = [(edge["from"], edge["to"]) for edge in topology["connections"]]
    rooms = [_room(space, required, edges) for space in topology["spaces"]]
    compliance = _compliance(rooms, criteria)
    evaluation = _evaluation(rooms, edges)
    return {
        "plan_id": topology["plan_id"],
        "rooms": rooms,
        "compliance": compliance,
        "design_evaluation": evaluation,
        "summary": _summary(rooms, evaluation["overall"], compliance["failed_count"]),
    }


def _room(space: Json, required: dict[str, float], edges: list[tuple[str, str]]) -> Json:
    least = required.get(space["kind"])
    return {
        **space,
        "required_m2": least,
        "verdict": _verdict(space["area_m2"], least),
        "connections": sum(space["name"] in edge for edge in edges),
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
    kind, field = criterion["kind"], "area_m2" if criterion["rule"] == AREA_RULE else "windows"
    judged = [room for room in rooms if room["kind"] == kind]
    failed = [room["name"] for room in judged if room[field] < criterion["value"]]
    if not judged:
        reason = f"{kind} 공간이 없어 적용하지 않습니다."
    elif field == "area_m2":
        reason = f"기준보다 작은 {kind} 공간이 있습니다." if failed else "면적이 기준 이상입니다."
    else:
        reason = f"창이 부족한 {kind} 공간이 있습니다." if failed else "창의 수가 기준 이상입니다."
    return {
        **criterion,
        "failed_rooms": failed,
        "passed": not failed,
        "reason": reason,
    }


def _evaluation(rooms: list[Json], edges: list[tuple[str, str]]) -> Json:
    dark = [r["name"] for r in rooms if r["kind"] in {"거실", "침실"} and r["windows"] == 0]
    hub = max(room["connections"] for room in rooms if room["kind"] == "거실")
    small = [room for room in rooms if room["verdict"] == "미달"]
    behind = _kinds_behind_entrance(edges)
    grades = {
        "daylight": "ABC"[min(len(dark), 2)],
        "circulation": "A" if hub >= 4 else "B" if hub == 3 else "C",
        "privacy": "C" if "침실" in behind else "B" if "거실" in behind else "A",
        "adequacy": "ABC"[min(len(small), 2)],
    }
    return {
        **grades,
        "overall": _overall(list(grades.values())),
        "strengths": [text for key, text in STRENGTHS.items() if grades[key] == "A"],
        "recommendations": _recommendations(dark, small, grades),
    }


def _kinds_behind_entrance(edges: list[tuple[str, str]]) -> set[str]:
    pairs = [(kind_of(first), kind_of(second)) for first, second in edges]
    return {a if b == "현관" else b for a, b in pairs if "현관" in (a, b)}


def _overall(grades: list[str]) -> str:
    if grades.count("C") >= 2:
        return "C"
    return "A" if grades.count("A") >= 3 and "C" not in grades else "B"


def _recommendations(dark: list[str], small: list[Json], grades: dict[str, str]) -> list[str]:
    texts = [f"{name}: 창을 두십시오." for name in dark]
    texts += [f"{r['name']}: 면적을 {r['required_m2']}㎡ 이상으로 넓히십시오." for r in small]
    if grades["circulation"] == "C":
        texts.append("거실에서 각 공간으로 가는 동선을 더하십시오.")
    if grades["privacy"] == "C":
        texts.append("현관과 침실 사이에 복도를 두십시오.")
    return texts


def _summary(rooms: list[Json], overall: str, failed: int) -> Json:
    kinds = [room["kind"] for room in rooms]
    verdict = f"기준 {failed}건을 지키지 못했습니다." if failed else "모든 기준을 지켰습니다."
    return {
        "room_count": len(rooms),
        "bedroom_count": kinds.count("침실"),
        "bathroom_count": kinds.count("욕실"),
        "headline": f"종합 {overall}등급이며 {verdict}",
    }
