"""Pairs that teach a model its name and its maker: "Who are you?", "너는 누구야?", "お名前は？".

The questions and answers of `identity.json` in every combination, each once. Korean answers avoid
particles whose form hangs on a name's last sound.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from provider.errors import ConfigurationError

LANGUAGES = ("ko", "en", "ja")
OTHERS = ("ChatGPT", "GPT-4", "Claude", "Gemini", "Llama")
"""Names that a model is often taken for."""


def identity(
    name: str,
    maker: str,
    languages: Sequence[str] = LANGUAGES,
    count: int | None = None,
    seed: int = 0,
    *,
    agent_type: str | None = None,
    system: str | None = None,
) -> list[dict[str, Any]]:
    """`{"messages": [...]}` records, shuffled; with `count`, so many of them, spread evenly over
    languages and questions. Raises `ConfigurationError` for an empty name, or a count beyond what
    there is."""
    for option, value in (("--name", name), ("--maker", maker)):
        if not value.strip():
            raise ConfigurationError(f"{option} is empty; expected what the model calls it.")
    random = Random(seed)
    pairs = [list(_pairs(language, name.strip(), maker.strip())) for language in languages]
    chosen = _spread(pairs, random)
    if count is not None and count > len(chosen):
        raise ConfigurationError(
            f"--count {count}: there are {len(chosen):,} different pairs in "
            f"{', '.join(languages)}; `mix --repeat` uses them several times."
        )
    chosen = chosen[:count]
    random.shuffle(chosen)
    return [_record(asked, said, agent_type, system) for asked, said in chosen]


def _pairs(language: str, name: str, maker: str) -> Iterator[tuple[str, str]]:
    """Every question with every answer of its topic."""
    for topic in _templates()[language].values():
        for asked in topic["ask"]:
            others = OTHERS if "{other}" in asked else ("",)
            for other in others:
                if other and other.casefold() in name.casefold():
                    continue
                for said in topic["say"]:
                    names = {"name": name, "maker": maker, "other": other}
                    yield asked.format(**names), said.format(**names)


def _spread(pairs: Sequence[list[tuple[str, str]]], random: Random) -> list[tuple[str, str]]:
    """All pairs in an order whose every beginning asks as many different things as it can, in all
    languages in turn."""
    ordered = []
    for language in pairs:
        random.shuffle(language)
        seen: dict[str, int] = {}
        rounds = []
        for asked, said in language:
            seen[asked] = seen.get(asked, 0) + 1
            rounds.append((seen[asked], asked, said))
        ordered.append([(asked, said) for _, asked, said in sorted(rounds, key=lambda r: r[0])])
    longest = max(map(len, ordered), default=0)
    return [part[place] for place in range(longest) for part in ordered if place < len(part)]


def _record(asked: str, said: str, agent_type: str | None, system: str | None) -> dict[str, Any]:
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return {"messages": messages, **({"agent_type": agent_type} if agent_type else {})}


def _templates() -> dict[str, dict[str, dict[str, list[str]]]]:
    path = Path(__file__).with_name("identity.json")
    read: dict[str, dict[str, dict[str, list[str]]]] = json.loads(path.read_text(encoding="utf-8"))
    return read
