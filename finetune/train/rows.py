"""Rows: conversations laid one after the other, without padding and without seeing each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import Any

import torch
from datasets import Dataset  # type: ignore[import-untyped]

from finetune.train.examples import IGNORED, Example, Examples
from finetune.train.packing import MULTIPLE, packed


def dataset(examples: Examples, fill: int | None = None) -> Dataset:
    """A dataset of rows; `fill` puts conversations together up to so many tokens, None leaves one
    in each row. Columns: `input_ids`, `labels`, and `lengths`, those of the row's conversations."""
    lengths = [len(row) for row in examples.rows]
    groups = [[n] for n in range(len(lengths))] if fill is None else packed(lengths, fill)
    rows = [[examples.rows[number] for number in group] for group in groups]
    return Dataset.from_dict(
        {
            "input_ids": [list(chain.from_iterable(row.ids for row in group)) for group in rows],
            "labels": [_labels(group) for group in rows],
            "lengths": [[len(row) for row in group] for group in rows],
        }
    )


def filled_up(rows: Any, multiple: int) -> Any:
    """`rows` with empty ones, in which nothing is learnt, up to a multiple: several processes that
    share them out evenly then need no row twice."""
    missing = -len(rows) % multiple
    if not missing:
        return rows
    from datasets import Dataset, concatenate_datasets

    empty = {"input_ids": [[0]], "labels": [[IGNORED]], "lengths": [[1]]}
    spare = {name: value * missing for name, value in empty.items()}
    return concatenate_datasets([rows, Dataset.from_dict(spare, features=rows.features)])


def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One batch [1, tokens] of all the rows' conversations, rounded up by one more document of
    nothing.

    `shift_labels` hold at each position the label of the next token of the same conversation.
    `position_ids` begin again with each, and `documents` are the borders between them, as plain
    numbers: attention needs them on the host.
    """
    lengths = list(chain.from_iterable(row["lengths"] for row in rows))
    ids = torch.tensor(list(chain.from_iterable(row["input_ids"] for row in rows)))
    labels = torch.tensor(list(chain.from_iterable(row["labels"] for row in rows)))
    spare = -len(ids) % MULTIPLE
    if spare:
        lengths.append(spare)
        ids = torch.cat([ids, ids.new_zeros(spare)])
        labels = torch.cat([labels, labels.new_full((spare,), IGNORED)])
    borders = (0, *accumulate(lengths))
    shifted = torch.cat([labels[1:], labels.new_full((1,), IGNORED)])
    shifted[torch.tensor(borders[1:]) - 1] = IGNORED
    positions = torch.cat([torch.arange(length) for length in lengths])
    return {
        "input_ids": ids[None],
        "position_ids": positions[None],
        "labels": labels[None],
        "shift_labels": shifted[None],
        "documents": borders,
    }


def _labels(group: Sequence[Example]) -> list[int]:
    return list(chain.from_iterable(row.labels for row in group))
