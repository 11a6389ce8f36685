"""Random floor plans with criteria: the input of the demo task.

A plan is what an app would send: a topology (6 to 12 spaces with Korean names, areas, windows and
the spaces behind their doors) and a context with the criteria to check. Same seed, same plan.
"""

from random import Random
from string import ascii_lowercase
from typing import Any

from finetune.demo.words import KOREAN_NOUNS, random_word

Plan = dict[str, Any]
LETTERS = ascii_lowercase[:12]

KIND_OF_NAME: dict[str, str] = {
    "거실": "거실",
    "가족실": "거실",
    "안방": "침실",
    "침실": "침실",
    "아이방": "침실",
    "손님방": "침실",
    "부부침실": "침실",
    "주방": "주방",
    "식당": "주방",
    "욕실": "욕실",
    "화장실": "욕실",
    "부부욕실": "욕실",
    "공용욕실": "욕실",
    "현관": "현관",
    "복도": "복도",
    "홀": "복도",
    "발코니": "발코니",
    "베란다": "발코니",
    "드레스룸": "드레스룸",
    "옷방": "드레스룸",
    "서재": "서재",
    "작업실": "서재",
    "다용도실": "다용도실",
    "세탁실": "다용도실",
}
"""What kind of room a name means, its trailing number aside."""

TYPICAL_M2: dict[str, float] = {
    "거실": 18.0,
    "침실": 10.0,
    "주방": 9.0,
    "욕실": 4.0,
    "현관": 3.0,
    "복도": 5.0,
    "발코니": 4.5,
    "드레스룸": 4.0,
    "서재": 7.0,
    "다용도실": 3.5,
}
AREA_RULE = "최소면적"
WINDOW_RULE = "최소창수"
USES = ("아파트", "단독주택", "오피스텔", "빌라")

_CORE = (("거실", "가족실"), ("현관",), ("주방", "식당"), ("욕실", "화장실", "공용욕실"))
_BEDROOMS = ("안방", "침실", "아이방", "손님방", "부부침실")
_HUB_WEIGHT = {"거실": 3, "복도": 2}
_EXTRAS = tuple(name for name, kind in KIND_OF_NAME.items() if kind not in {"거실", "현관"})


def kind_of(name: str) -> str:
    """The kind of room behind a name such as `침실2`. Raises KeyError for an unknown name."""
    return KIND_OF_NAME[name.rstrip("0123456789")]


def random_plan(random: Random) -> Plan:
    """A plan with its criteria, drawn from `random`."""
    names = _names(random, random.randint(6, 12))
    doors = _doors(random, names)
    return {
        "topology": {
            "plan_id": f"FP-{random.randint(1000, 9999)}",
            "spaces": [
                _space(random, letter, name, doors[letter])
                for letter, name in zip(LETTERS, names, strict=False)
            ],
        },
        "context": {
            "use": random.choice(USES),
            "residents": random.randint(1, 6),
            "criteria": _criteria(random, names),
        },
    }


def _names(random: Random, count: int) -> list[str]:
    bases = [random.choice(options) for options in _CORE] + [random.choice(_BEDROOMS)]
    bases += [random.choice(_EXTRAS + _BEDROOMS * 2) for _ in range(count - len(bases))]
    total = {base: bases.count(base) for base in bases}
    seen: dict[str, int] = {}
    names = []
    for base in bases:
        seen[base] = seen.get(base, 0) + 1
        numbered = total[base] > 1 or random.random() < 0.15
        names.append(f"{base}{seen[base]}" if numbered else base)
    random.shuffle(names)
    return names


def _space(random: Random, letter: str, name: str, doors: list[str]) -> dict[str, Any]:
    kind = kind_of(name)
    if random.random() < 0.06:
        name = f"{random_word(random, True, KOREAN_NOUNS)} {kind}"
    return {
        "id": letter,
        "kind": kind,
        "windows": random.choice((0, 1, 1, 1, 2, 2, 3)),
        "name": name,
        "area_m2": round(TYPICAL_M2[kind] * random.uniform(0.7, 1.6), 1),
        "doors": doors,
    }


def _doors(random: Random, names: list[str]) -> dict[str, list[str]]:
    """What each space opens to: a tree that leans towards hubs, and up to three doors more."""
    kinds = [kind_of(name) for name in names]
    order = sorted(range(len(kinds)), key=lambda at: (kinds[at] != "거실", random.random()))
    pairs: set[tuple[int, int]] = set()
    for count, space in enumerate(order[1:], start=1):
        weights = [_HUB_WEIGHT.get(kinds[at], 1) for at in order[:count]]
        pairs.add((random.choices(order[:count], weights)[0], space))
    for _ in range(random.randint(0, 3)):
        first, second = random.sample(range(len(kinds)), 2)
        if (second, first) not in pairs:
            pairs.add((first, second))
    doors: dict[str, list[str]] = {LETTERS[at]: [] for at in range(len(kinds))}
    for first, second in sorted(pairs):
        doors[LETTERS[first]].append(LETTERS[second])
        doors[LETTERS[second]].append(LETTERS[first])
    return {letter: sorted(behind) for letter, behind in doors.items()}


def _criteria(random: Random, names: list[str]) -> list[dict[str, Any]]:
    """Three to five criteria, one of each rule and kind at most; some about absent kinds."""
    present = sorted({kind_of(name) for name in names})
    wanted = random.randint(3, 5)
    chosen: dict[tuple[str, str], float] = {}
    while len(chosen) < wanted:
        kind = random.choice(present if random.random() < 0.9 else tuple(TYPICAL_M2))
        if random.random() < 0.7:
            chosen[AREA_RULE, kind] = round(TYPICAL_M2[kind] * random.uniform(0.6, 1.2) * 2) / 2
        elif kind in {"거실", "침실", "주방", "서재"}:
            chosen[WINDOW_RULE, kind] = random.choice((1.0, 1.0, 1.0, 2.0))
    return [
        {"criterion": number, "rule": rule, "value": value, "kind": kind}
        for number, ((rule, kind), value) in enumerate(chosen.items(), start=1)
    ]
