"""Instances of a JSON Schema, drawn by a seed: the same seed gives the same instance."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

_WORDS = ("거실", "kitchen", "balcony", "침실", "area", "daylight", "path", "복도", "wall", "plan")
_FORMATS = {
    "date-time": "2026-0{}-11T09:30:00Z",
    "time": "0{}:30:00Z",
    "date": "2026-0{}-11",
    "duration": "P{}D",
    "email": "reader{}@example.com",
    "hostname": "host{}.example.com",
    "ipv4": "192.0.2.{}",
    "ipv6": "2001:db8::{}",
    "uuid": "00000000-0000-4000-8000-00000000000{}",
}


def instance(schema: dict[str, Any], seed: str) -> Any:
    """A value that is valid under `schema` (the strict subset, and most of what lies beyond)."""
    return _Draw(schema, random.Random(seed)).value(schema, 0)


class _Draw:
    def __init__(self, root: dict[str, Any], dice: random.Random) -> None:
        self.root = root
        self.dice = dice

    def value(self, node: Any, depth: int) -> Any:
        if not isinstance(node, dict):
            return self.words(1)
        if "const" in node:
            return node["const"]
        if "enum" in node:
            return self.dice.choice(node["enum"])
        if "$ref" in node:
            return self.value(self.resolve(node["$ref"]), depth + 1)
        for several in ("anyOf", "oneOf"):
            if several in node:
                return self.value(self.choose(node[several], depth), depth + 1)
        if "allOf" in node:
            rest = {keyword: node[keyword] for keyword in node if keyword != "allOf"}
            return self.value(_merged([rest, *node["allOf"]]), depth)
        return self.typed(node, depth)

    def resolve(self, reference: str) -> Any:
        target: Any = self.root
        for step in reference.removeprefix("#").split("/")[1:]:
            target = target[step.replace("~1", "/").replace("~0", "~")]
        return target

    def choose(self, options: list[Any], depth: int) -> Any:
        """Any option; below a few levels the least nested one, so that recursion ends."""
        if depth < 6:
            return self.dice.choice(options)
        return min(options, key=lambda option: len(str(option)) + 999 * ("$ref" in str(option)))

    def typed(self, node: dict[str, Any], depth: int) -> Any:
        kind = node.get("type") or ("object" if "properties" in node else "string")
        if isinstance(kind, list):
            kind = kind[-1] if depth > 6 and "null" in kind else self.dice.choice(kind)
        by_type: dict[str, Callable[[dict[str, Any], int], Any]] = {
            "object": self.object,
            "array": self.array,
            "string": self.string,
            "integer": self.integer,
            "number": self.number,
            "boolean": lambda node, depth: self.dice.random() < 0.5,
            "null": lambda node, depth: None,
        }
        return by_type[kind](node, depth)

    def object(self, node: dict[str, Any], depth: int) -> dict[str, Any]:
        required = node.get("required", ())
        return {
            name: self.value(member, depth + 1)
            for name, member in node.get("properties", {}).items()
            if name in required or depth < 3
        }

    def array(self, node: dict[str, Any], depth: int) -> list[Any]:
        least = node.get("minItems", 0)
        most = min(node.get("maxItems", least + 2), least + 2)
        length = least if depth > 5 else self.dice.randint(least, max(least, most))
        return [self.value(node.get("items", {}), depth + 1) for _ in range(length)]

    def string(self, node: dict[str, Any], depth: int) -> str:
        if "pattern" in node:
            return matching(node["pattern"], self.dice)
        if node.get("format") in _FORMATS:
            return _FORMATS[node["format"]].format(self.dice.randint(1, 9))
        text = self.words(2)
        least = node.get("minLength", 0)
        while len(text) < least:
            text += " " + self.words(1)
        return text[: node.get("maxLength", max(len(text), least))]

    def words(self, most: int) -> str:
        return " ".join(self.dice.choices(_WORDS, k=self.dice.randint(1, most)))

    def integer(self, node: dict[str, Any], depth: int) -> int:
        low = int(node.get("minimum", node.get("exclusiveMinimum", -1) + 1))
        high = int(node.get("maximum", node.get("exclusiveMaximum", low + 100) - 1))
        step = int(node.get("multipleOf", 1))
        first = -(-low // step) * step
        return first + step * self.dice.randint(0, max(0, (high - first) // step))

    def number(self, node: dict[str, Any], depth: int) -> float:
        if "multipleOf" in node and float(node["multipleOf"]).is_integer():
            return self.integer(node, depth)
        low = float(node.get("minimum", node.get("exclusiveMinimum", 0)))
        high = float(node.get("maximum", node.get("exclusiveMaximum", low + 100)))
        return round(low + (high - low) * self.dice.uniform(0.1, 0.9), 3)


def _merged(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for schema in schemas:
        properties = {**merged.get("properties", {}), **schema.get("properties", {})}
        required = [*merged.get("required", ()), *schema.get("required", ())]
        merged.update(schema)
        if properties:
            merged.update(properties=properties, required=required)
    return merged


def matching(pattern: str, dice: random.Random) -> str:
    """A short string that the pattern matches, by walking Python's own parse of it."""
    import re._parser as parser  # type: ignore[import-not-found, unused-ignore]

    text = "".join(_emit(list(parser.parse(pattern)), dice))
    if re.search(pattern, text) is None:
        raise ValueError(f"no instance found for pattern {pattern!r}")
    return text


def _emit(nodes: list[Any], dice: random.Random) -> list[str]:
    made: list[str] = []
    for kind, detail in nodes:
        match str(kind):
            case "LITERAL":
                made.append(chr(detail))
            case "IN":
                made.append(_member(detail, dice))
            case "ANY":
                made.append("a")
            case "MAX_REPEAT" | "MIN_REPEAT":
                low, high, inner = detail
                times = dice.randint(low, min(int(high), low + 2))
                for _ in range(times):
                    made += _emit(list(inner), dice)
            case "SUBPATTERN":
                made += _emit(list(detail[-1]), dice)
            case "BRANCH":
                made += _emit(list(dice.choice(detail[1])), dice)
            case "NOT_LITERAL":
                made.append("a" if detail != ord("a") else "b")
            case _:
                pass  # an anchor: nothing to write
    return made


def _member(choices: list[Any], dice: random.Random) -> str:
    if str(choices[0][0]) == "NEGATE":
        return next(c for c in "abz09_ -" if not _contains(choices[1:], ord(c)))
    kind, detail = dice.choice(choices)
    if str(kind) == "LITERAL":
        return chr(detail)
    if str(kind) == "RANGE":
        return chr(dice.randint(*detail))
    return {"CATEGORY_DIGIT": "7", "CATEGORY_SPACE": " "}.get(str(detail), "w")


def _contains(choices: list[Any], code: int) -> bool:
    for kind, detail in choices:
        if str(kind) == "LITERAL" and detail == code:
            return True
        if str(kind) == "RANGE" and detail[0] <= code <= detail[1]:
            return True
        if str(kind) == "CATEGORY" and re.match(
            {"CATEGORY_DIGIT": r"\d", "CATEGORY_SPACE": r"\s"}.get(str(detail), r"\w"), chr(code)
        ):
            return True
    return False
