"""A run of `expand`: settings, journal, budget, and the file at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from finetune.asking.asker import Asker
from finetune.asking.budget import Budget
from finetune.asking.client import alone, client, model_of
from finetune.asking.journal import Journal
from finetune.asking.price import Price
from finetune.data.conversation import Conversation
from finetune.data.expand import Expanded, Plan, expand, may_learn_from
from finetune.data.write import free, write_lines
from provider.settings import Settings


def run(
    seeds: Sequence[Conversation],
    plan: Plan,
    out: Path,
    limits: Budget,
    price: Price,
    concurrency: int,
) -> tuple[str, bool]:
    """What was done in words, and whether it was all. `limits` are for all runs together.

    The journal stands beside `out`. Raises `ConfigurationError` where `out` is not this command's,
    for a model that may not be learnt from, and for limits that cannot be kept.
    """
    kept = out.with_name(f"{out.name}.journal")
    settings = alone(Settings(), kept.with_suffix(".switch"))
    plan = replace(plan, model=plan.model or model_of(settings))
    may_learn_from(plan.model)
    if settings.llm_provider == "local":
        may_learn_from(settings.local_llm_model_path)
    if not kept.exists():
        free(out)
    if limits.usd is not None:
        price.check(plan.model)
    journal = Journal(kept)
    try:
        budget = Budget(limits.requests, limits.usd, journal.requests, journal.usd)
        before = journal.requests

        async def asking() -> tuple[Expanded, str | None]:
            async with client(settings) as sdk:
                asker = Asker(sdk, journal, budget, concurrency, accept=may_learn_from, price=price)
                return await expand(seeds, plan, asker), asker.stopped

        done, stopped = asyncio.run(asking())
        write_lines(out, done.records, again=True)
        asked = f"{journal.requests - before:,} requests now, {journal.requests:,} in all"
        return _said(done, out, f"{asked}, {_dollars(journal)}", stopped), not done.unanswered
    finally:
        journal.close()


def _said(done: Expanded, out: Path, asked: str, stopped: str | None) -> str:
    lines = [f"{out}: {len(done.records):,} new examples ({asked})"]
    lines += [f"  dropped: {number:,} {why}" for why, number in done.dropped.most_common()]
    if done.unanswered:
        why = stopped or "the endpoint failed"
        lines.append(f"  not finished: {why}; the same command with room to spend goes on")
    return "\n".join(lines)


def _dollars(journal: Journal) -> str:
    if any(reply["usd"] is None for reply in journal.replies.values()):
        return "cost not known"
    return f"${journal.usd:.4f}"
