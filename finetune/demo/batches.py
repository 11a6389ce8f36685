"""Samples as token ids, and batches of them of nearly equal length."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from finetune.demo.corpus import Sample

WINDOW = 16
"""Batches that are sorted by length together: little padding, yet a fresh mixture every time."""


@dataclass(frozen=True)
class Encoded:
    """One sample: the ids of prompt and answer, and how many of them are the prompt."""

    ids: list[int]
    prompt: int


@dataclass(frozen=True)
class Batch:
    """`ids` [rows, length] int64, padded on the right; `answer` and `text` [rows, length] mark the
    ids that belong to the answer and to any text at all."""

    ids: Tensor
    answer: Tensor
    text: Tensor


def encode(tokenizer: PreTrainedTokenizerFast, sample: Sample) -> Encoded:
    """Prompt through the chat template, then the answer and the end of the turn.

    The opening bracket of a form counts as prompt: only a schema asks for a form, so it is given,
    and must not be learnt as the answer to a prompt that a chat could hold too.
    """
    prompt = tokenizer.apply_chat_template(
        sample.messages, add_generation_prompt=True, tokenize=False
    )
    before = tokenizer.encode(prompt, add_special_tokens=False)
    after = tokenizer.encode(sample.answer, add_special_tokens=False)
    given = 1 if sample.task == "form" else 0
    return Encoded([*before, *after, tokenizer.eos_token_id], len(before) + given)


def batches(samples: Sequence[Encoded], rows: int, random: Random) -> Iterator[Batch]:
    """Endless batches of `rows` samples; every sample once per round, in an order of `random`."""
    order: list[Encoded] = []
    while True:
        while len(order) < rows * WINDOW:
            order += random.sample(list(samples), len(samples))
        window, order = order[: rows * WINDOW], order[rows * WINDOW :]
        window.sort(key=lambda sample: len(sample.ids))
        starts = list(range(0, len(window), rows))
        random.shuffle(starts)
        for start in starts:
            yield collate(window[start : start + rows])


def collate(samples: Iterable[Encoded]) -> Batch:
    rows = list(samples)
    length = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    answer, text = torch.zeros_like(ids, dtype=torch.bool), torch.zeros_like(ids, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        text[index, : len(row.ids)] = True
        answer[index, row.prompt : len(row.ids)] = True
    return Batch(ids, answer, text)
