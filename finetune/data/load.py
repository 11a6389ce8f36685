"""Whole files in memory: each record as it was written, beside the conversation that it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.data.conversation import Conversation
from finetune.data.formats import conversation
from finetune.data.lines import raising
from finetune.data.malformed import Malformed
from finetune.data.problem import BadData, Problem
from finetune.data.read import records


@dataclass(frozen=True, slots=True)
class Loaded:
    """`record` is written on as it was read; `conversation` is what decisions are made from."""

    record: Mapping[str, Any]
    conversation: Conversation


def load(paths: Iterable[Path]) -> list[Loaded]:
    """Every record of `paths`. Raises `BadData` at the first that is no conversation."""
    return [
        Loaded(record, _read(record, str(path), line))
        for path in paths
        for line, record in records(path, raising)
    ]


def _read(record: Mapping[str, Any], source: str, line: int) -> Conversation:
    try:
        return conversation(record, source, line)
    except Malformed as error:
        raise BadData(Problem(source, line, error.field, error.reason)) from None
