"""A whole evaluation: labelled files in, journal and reports out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.asking.budget import Budget
from finetune.asking.journal import Journal
from finetune.asking.price import Price
from finetune.data.answers import Answers
from finetune.data.read import read_conversations
from finetune.data.schemas import AnswerSchema, load_schemas
from finetune.data.write import write_lines, write_text
from finetune.evaluate.contestant import Contestant
from finetune.evaluate.report import answers, as_html, as_json
from finetune.evaluate.run import Evaluation, Task, Terms, evaluate
from finetune.evaluate.score import kind_of
from provider.errors import ConfigurationError


@dataclass(frozen=True)
class Job:
    """What is to be evaluated. `price` is the reference's; who stands at an endpoint costs
    nothing."""

    paths: Sequence[Path]
    schemas: Sequence[str]
    limit: int | None
    candidates: Sequence[Contestant]
    reference: Contestant | None
    budget: Budget
    price: Price
    terms: Terms


def run(job: Job, out: Path) -> Evaluation:
    """Asks, scores, and writes report.html, report.json and answers.jsonl into `out`.

    Raises `ConfigurationError` for data, schemas or endpoints that cannot be used.
    """
    made = tasks(job.paths, job.schemas)[: job.limit]
    if not made:
        raise ConfigurationError(f"{job.paths[0]} has no conversation to evaluate.")
    if job.budget.usd is not None and job.reference is not None:
        job.price.check(job.reference.model)
    journal = Journal(out / "journal.jsonl")
    try:
        limits = job.budget
        budget = Budget(limits.requests, limits.usd, journal.requests, journal.usd)

        def price(one: Contestant) -> Price:
            own = one.endpoint.startswith("http") or one.endpoint == "local"
            return Price(0, 0) if own else job.price

        done = asyncio.run(
            evaluate(made, job.candidates, job.reference, journal, budget, price, job.terms)
        )
    finally:
        journal.close()
    write_text(out / "report.json", as_json(done))
    write_text(out / "report.html", as_html(done))
    write_lines(out / "answers.jsonl", answers(done), again=True)
    return done


def tasks(paths: Sequence[Path], schemas: Sequence[str]) -> list[Task]:
    """The conversations as tasks. A given schema is also asked for, where the conversation has no
    response format of its own and its answer is JSON."""
    held = Answers(load_schemas(schemas))
    made = []
    for path in paths:
        for conversation in read_conversations(path):
            schema = held.schema(conversation)
            if isinstance(schema, str):
                place = f"{conversation.source}:{conversation.line}"
                raise ConfigurationError(f"{place}: response_format: {schema}")
            if schema is None or kind_of(conversation) != "json":
                made.append(Task(conversation))
                continue
            form = {"name": "answer", "schema": _plain(schema)}
            asked = conversation.response_format or {"type": "json_schema", "json_schema": form}
            made.append(Task(conversation, schema, asked))
    return made


def _plain(schema: AnswerSchema) -> dict[str, object]:
    return dict(schema.schema)
