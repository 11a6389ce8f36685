"""The training and held-out samples: plans, forms and chat, mixed and seeded."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random

from finetune.demo.analysis import analyse
from finetune.demo.chat import PLAN_SYSTEM, Message, random_chat
from finetune.demo.forms import random_form
from finetune.demo.plans import random_plan
from provider.protocol.serial import dumps


@dataclass(frozen=True)
class Sample:
    """One conversation and the answer that should follow; `task` is floorplan, form or chat."""

    task: str
    messages: list[Message]
    answer: str


def floorplan_sample(random: Random) -> Sample:
    plan = random_plan(random)
    messages = [
        {"role": "system", "content": PLAN_SYSTEM},
        {"role": "user", "content": dumps(plan)},
    ]
    return Sample("floorplan", messages, dumps(analyse(plan)))


def mixed_sample(random: Random) -> Sample:
    """Seven in ten floor plans; the others, which are a fifth as long, forms and chat."""
    draw = random.random()
    if draw < 0.70:
        return floorplan_sample(random)
    task, make = ("form", random_form) if draw < 0.91 else ("chat", random_chat)
    messages, answer = make(random)
    return Sample(task, messages, answer)


def training_samples(seed: int, count: int) -> Iterator[Sample]:
    return (mixed_sample(Random(f"train/{seed}/{index}")) for index in range(count))


def heldout_plans(count: int) -> list[Sample]:
    """Floor plans that no training seed draws."""
    return [floorplan_sample(Random(f"heldout/{index}")) for index in range(count)]


def data_hash(samples: Iterable[Sample]) -> str:
    """SHA-256 over the samples: equal hashes mean equal data, whatever made them."""
    return text_hash(dumps([sample.task, sample.messages, sample.answer]) for sample in samples)


def text_hash(texts: Iterable[str]) -> str:
    """SHA-256 over texts in their order, as 64 hex digits."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()
