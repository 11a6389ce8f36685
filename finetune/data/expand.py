"""New training examples out of seed conversations, written by a hosted model.

    seeds, in batches: new questions (one request a seed and round) > those too near to what is
    there are dropped > each is answered (one request) > answers that broke off, break the schema or
    repeat are dropped > records

Everything asked stands in a journal beside the output, so a run that was killed goes on where it
was and pays for nothing twice; the output is written from it, whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune.asking.asker import Asker, Reply
from finetune.data.answers import Answers
from finetune.data.conversation import Conversation
from finetune.data.duplicates import Seen, normal
from finetune.data.formats import conversation
from finetune.data.malformed import Malformed
from finetune.data.schemas import AnswerSchema
from finetune.data.variation import (
    answer_request,
    can_vary,
    questions_of,
    questions_request,
    varied,
)
from provider.errors import ConfigurationError
from provider.record import forbidden

_BATCH = 16
_PER_ROUND = 10
"""Questions that one request asks for at most; more become alike."""


@dataclass(frozen=True)
class Plan:
    """`per_seed` new examples are tried for each seed. `schemas` are for seeds whose request had
    no format of its own; `near` is the resemblance of questions that are too much alike."""

    model: str
    per_seed: int = 3
    near: float = 0.85
    longest: int = 1024
    schemas: Mapping[str | None, AnswerSchema] = field(default_factory=dict)

    def requests(self, seeds: int) -> int:
        """Requests at most."""
        return seeds * (-(-self.per_seed // _PER_ROUND) + self.per_seed)

    def format(self, seed: Conversation) -> Mapping[str, Any] | None:
        """The response format for a seed that has none."""
        schema = self.schemas.get(seed.agent_type) or self.schemas.get(None)
        if schema is None:
            return None
        form = {"name": "answer", "schema": schema.schema}
        return {"type": "json_schema", "json_schema": form}


@dataclass
class Expanded:
    """The new records, and how many were dropped for which reason."""

    records: list[dict[str, Any]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0


async def expand(seeds: Sequence[Conversation], plan: Plan, asker: Asker) -> Expanded:
    """The examples that the budget gave; `asker.stopped` says if it ended early.

    Raises `ConfigurationError` for a model whose outputs must not train others.
    """
    may_learn_from(plan.model)
    done = Expanded()
    usable = [seed for seed in seeds if can_vary(seed)]
    if len(usable) < len(seeds):
        done.dropped["seeds whose last question is a tool's result"] = len(seeds) - len(usable)
    seen = Seen(plan.near)
    for seed in usable:
        seen.add(_asked(seed, seed.prompt[-1]["content"]))
    for start in range(0, len(usable), _BATCH):
        await _batch(usable[start : start + _BATCH], plan, asker, seen, done)
    return done


def may_learn_from(model: str) -> None:
    """Raises `ConfigurationError` for a model whose outputs must not train others."""
    if why := forbidden(model):
        raise ConfigurationError(
            f"model {model}: its answers may not become training data ({why}); name another one."
        )


async def _batch(
    seeds: Sequence[Conversation], plan: Plan, asker: Asker, seen: Seen, done: Expanded
) -> None:
    rounds = [
        (seed, questions_request(seed, plan.model, count, number))
        for seed in seeds
        for number, count in enumerate(_rounds(plan.per_seed))
    ]
    replies = await asker.ask_all([body for _, body in rounds])
    asked = [
        (seed, question)
        for (seed, _), reply in zip(rounds, replies, strict=True)
        for question in _new(seed, reply, seen, done)
    ]
    bodies = [
        answer_request(seed, question, plan.model, plan.longest, plan.format(seed))
        for seed, question in asked
    ]
    answers = await asker.ask_all(bodies)
    for (seed, question), answer in zip(asked, answers, strict=True):
        _keep(seed, question, answer, plan, done)


def _new(seed: Conversation, reply: Reply | None, seen: Seen, done: Expanded) -> Iterator[str]:
    if reply is None:
        done.unanswered += 1
        return
    questions = questions_of(reply.text) if reply.whole else []
    if not questions:
        done.dropped[f"no questions ({reply.refused or reply.finish_reason})"] += 1
    for question in questions:
        if seen.add(_asked(seed, question)):
            yield question
        else:
            done.dropped["questions too near to others"] += 1


def _keep(
    seed: Conversation, question: str, reply: Reply | None, plan: Plan, done: Expanded
) -> None:
    if reply is None or reply.message is None or not reply.whole:
        if reply is None:
            done.unanswered += 1
        else:
            done.dropped[f"no whole answer ({reply.refused or reply.finish_reason})"] += 1
        return
    record = varied(seed, question, reply.message, reply.model, plan.format(seed))
    try:
        made = conversation(record)
    except Malformed as error:
        done.dropped[f"unusable ({error.reason})"] += 1
        return
    if any(p.severity == "error" for p in Answers(plan.schemas).problems(made)):
        done.dropped["answers that break their schema"] += 1
        return
    done.records.append(record)


def _asked(seed: Conversation, question: str) -> str:
    """What is compared: the question, apart for each agent."""
    return normal(f"{seed.agent_type or ''} {question}")


def _rounds(count: int) -> list[int]:
    whole, rest = divmod(count, _PER_ROUND)
    return [_PER_ROUND] * whole + ([rest] if rest else [])
