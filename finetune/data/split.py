"""Parts for training, validation and test: the same ones for the same data and seed.

What belongs together stays together: equal conversations, equal questions, and near duplicates.
Each agent has its share of each part. The choice follows from content and seed, not from the order
of lines, so that an added line moves none of the others.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finetune.data.duplicates import Groups, near_groups
from finetune.data.facts import Facts, facts
from finetune.data.load import Loaded


@dataclass(frozen=True)
class Split:
    """Rows by name of part, in their order, and what could not be done as asked."""

    parts: Mapping[str, Sequence[Loaded]]
    notes: Sequence[str]


def split(rows: Sequence[Loaded], shares: Mapping[str, float], seed: int, near: float) -> Split:
    """`rows` divided; `shares` are those of every part but `train`, which gets the rest. `near` is
    the resemblance from which texts stay together (0: only equal ones)."""
    known = [facts(row.conversation) for row in rows]
    chosen: dict[int, str] = {}
    notes: list[str] = []
    for agent, groups in sorted(_by_agent(known, _groups(known, near)).items()):
        notes += _choose(agent, _shuffled(groups, known, seed), shares, chosen)
    parts: dict[str, list[Loaded]] = {name: [] for name in ("train", *shares)}
    for place, row in enumerate(rows):
        parts[chosen.get(place, "train")].append(row)
    return Split(parts, notes)


def _groups(known: Sequence[Facts], near: float) -> list[list[int]]:
    joined = Groups(len(known))
    first: dict[bytes, int] = {}
    for place, row in enumerate(known):
        for key in (b"w" + row.digest, b"q" + row.asked):
            joined.join(first.setdefault(key, place), place)
    if near:
        for place, group in enumerate(near_groups([row.text for row in known], near)):
            joined.join(group, place)
    members: dict[int, list[int]] = defaultdict(list)
    for place in range(len(known)):
        members[joined.of(place)].append(place)
    return list(members.values())


def _by_agent(known: Sequence[Facts], groups: Sequence[list[int]]) -> dict[str, list[list[int]]]:
    """A group that several agents share counts for the first of them by name."""
    agents: dict[str, list[list[int]]] = defaultdict(list)
    for group in groups:
        agents[min(known[place].agent_type or "" for place in group)].append(group)
    return agents


def _shuffled(groups: list[list[int]], known: Sequence[Facts], seed: int) -> list[list[int]]:
    def key(group: list[int]) -> bytes:
        least = min(known[place].digest for place in group)
        return hashlib.blake2b(least, key=str(seed).encode(), digest_size=16).digest()

    return sorted(groups, key=key)


def _choose(
    agent: str, groups: list[list[int]], shares: Mapping[str, float], chosen: dict[int, str]
) -> list[str]:
    """Fills the parts one after the other with groups that fit; the rest stays for training."""
    total = sum(map(len, groups))
    notes: list[str] = []
    for part, share in shares.items():
        wanted, got = max(1, round(total * share)), 0
        rest: list[list[int]] = []
        for left, group in enumerate(groups, 1 - len(groups)):
            last = not left and not rest  # training keeps one at least
            if got + len(group) <= wanted and not last:
                got += len(group)
                chosen.update(dict.fromkeys(group, part))
            else:
                rest.append(group)
        groups = rest
        if abs(got - wanted) > max(1, wanted / 10) or not got:
            name = f"agent {agent!r}" if agent else "conversations without an agent"
            why = "much of it belongs together (--near)" if total > 1 else "it is the only one"
            notes.append(f"{name}: {part} has {got:,} of {wanted:,} wanted, since {why}")
    return notes
