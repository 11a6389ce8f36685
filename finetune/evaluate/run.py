"""An evaluation: every contestant is asked every prompt once, and what it says is scored."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune.asking.asker import Asker, Reply
from finetune.asking.budget import Budget
from finetune.asking.client import client
from finetune.asking.journal import Journal
from finetune.asking.price import Price
from finetune.data.conversation import Conversation, unweighted
from finetune.data.schemas import AnswerSchema
from finetune.evaluate.contestant import Contestant
from finetune.evaluate.gate import Gate, decide
from finetune.evaluate.score import Score, score


@dataclass(frozen=True)
class Task:
    """A prompt with the right answer. `format` is the response format that is asked for, and
    `schema` what the answer is held to."""

    conversation: Conversation
    schema: AnswerSchema | None = None
    format: Mapping[str, Any] | None = None

    def body(self, model: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The request."""
        asked = self.conversation.request()
        asked["messages"] = [unweighted(message) for message in self.conversation.prompt]
        if self.format is not None:
            asked["response_format"] = self.format
        return {"model": model, **asked, **options}


@dataclass
class Result:
    """One contestant's replies and scores; None for what was not answered."""

    contestant: Contestant
    replies: list[Reply | None]
    scores: list[Score | None]
    stopped: str | None

    @property
    def answered(self) -> list[Score]:
        return [score for score in self.scores if score is not None]

    def figures(self) -> dict[str, Any]:
        """Means over what was answered."""
        scores = self.answered
        bound = [score.valid for score in scores if score.valid is not None]
        told = [reply for reply in self.replies if reply is not None]
        return {
            "name": self.contestant.name,
            "model": self.contestant.model,
            "endpoint": self.contestant.endpoint,
            "answered": len(scores),
            "score": mean([score.score for score in scores]),
            "exact": mean([float(score.exact) for score in scores]),
            "valid": mean([float(valid) for valid in bound]),
            "refused": sum(reply.message is None for reply in told),
            "seconds": statistics.median([r.seconds for r in told]) if told else None,
            "usd": None if any(r.usd is None for r in told) else sum(r.usd or 0.0 for r in told),
        }


@dataclass
class Evaluation:
    """All results; the gate of each candidate, by name, where there is a reference."""

    tasks: Sequence[Task]
    candidates: list[Result]
    reference: Result | None = None
    gates: dict[str, Gate] = field(default_factory=dict)

    @property
    def results(self) -> list[Result]:
        return [*self.candidates, *([self.reference] if self.reference else [])]

    @property
    def unfinished(self) -> str | None:
        """Why answers are missing; None where none are."""
        for result in self.results:
            if len(result.answered) < len(self.tasks):
                return f"{result.contestant.name}: {result.stopped or 'the endpoint failed'}"
        return None

    def by_agent(self) -> dict[str, dict[str, float | None]]:
        """Mean scores by agent and contestant, where there are agents."""
        places: dict[str, list[int]] = defaultdict(list)
        for place, task in enumerate(self.tasks):
            places[task.conversation.agent_type or "(none)"].append(place)
        return {
            agent: {
                result.contestant.name: mean(
                    [s.score for p in at if (s := result.scores[p]) is not None]
                )
                for result in self.results
            }
            for agent, at in sorted(places.items())
        }


@dataclass(frozen=True)
class Terms:
    """How everybody is asked."""

    options: Mapping[str, Any]
    concurrency: int
    gate: float
    seed: int = 0


async def evaluate(
    tasks: Sequence[Task],
    candidates: Sequence[Contestant],
    reference: Contestant | None,
    journal: Journal,
    budget: Budget,
    price: Callable[[Contestant], Price],
    terms: Terms,
) -> Evaluation:
    """Asks and scores. Raises `ConfigurationError` for an endpoint that cannot be asked at all."""

    async def ask(one: Contestant) -> Result:
        async with client(one.settings) as sdk:
            asker = Asker(sdk, journal, budget, terms.concurrency, one.endpoint, price=price(one))
            replies = await asker.ask_all([task.body(one.model, terms.options) for task in tasks])
        scores = [
            None if reply is None else score(task.conversation, reply, task.schema)
            for task, reply in zip(tasks, replies, strict=True)
        ]
        return Result(one, replies, scores, asker.stopped)

    results = [await ask(one) for one in candidates]
    done = Evaluation(tasks, results, await ask(reference) if reference else None)
    if done.reference is not None:
        for result in done.candidates:
            pairs = _paired(result, done.reference)
            if pairs:
                ours, theirs = zip(*pairs, strict=True)
                done.gates[result.contestant.name] = decide(ours, theirs, terms.gate, terms.seed)
    return done


def _paired(one: Result, other: Result) -> list[tuple[float, float]]:
    return [
        (ours.score, theirs.score)
        for ours, theirs in zip(one.scores, other.scores, strict=True)
        if ours is not None and theirs is not None
    ]


def mean(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return sum(values) / len(values) if values else None
