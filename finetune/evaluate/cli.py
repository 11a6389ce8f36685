"""`sllm finetune evaluate`: a candidate beside a reference, on labelled conversations.

Exit codes: 0 pass (or no reference to pass); 1 fail, or not finished; 2 options that cannot work;
3 undecided.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from finetune.asking.options import asking_options
from finetune.data.options import A_PATH, PATHS, plainly
from provider.errors import ConfigurationError

if TYPE_CHECKING:
    from finetune.evaluate.evaluation import Job

_SPEC = "[NAME=][PROVIDER:]MODEL[@URL]"


@click.command()
@PATHS
@click.option(
    "--candidate",
    "-c",
    "candidates",
    multiple=True,
    required=True,
    metavar=_SPEC,
    help="Who is examined; several are compared.",
)
@click.option("--reference", "-r", metavar=_SPEC, help="Who sets the measure (gpt-4o-mini).")
@click.option(
    "--gate",
    type=click.FloatRange(0, min_open=True),
    default=0.7,
    show_default=True,
    help="Share of the reference's score that passes.",
)
@click.option(
    "--out",
    type=A_PATH,
    required=True,
    metavar="DIR",
    help="report.html, report.json, answers.jsonl, and the journal to go on from.",
)
@click.option(
    "--schema",
    "schemas",
    multiple=True,
    metavar="[AGENT=]FILE|module:Model",
    help="What answers are held to and asked for, where no response_format says.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many conversations.")
@click.option(
    "--temperature",
    type=click.FloatRange(0, 2),
    default=0.0,
    show_default=True,
    help="Of all contestants.",
)
@asking_options
@click.option(
    "--price",
    metavar="0.15:0.60",
    help="The reference's US dollars per million prompt and answer tokens.",
)
@click.option("--key-from", metavar="VARIABLE", help="Environment variable with the key of @URLs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@plainly
def evaluate(paths: tuple[Path, ...], **flags: Any) -> None:
    """Score models on labelled conversations, and say whether a candidate reaches the reference.

    The last message of each conversation is the right answer. PROVIDER is openai, local or litellm;
    with @URL, any OpenAI-compatible endpoint is asked. Run it again after a crash: it goes on.
    """
    from finetune.evaluate.evaluation import run
    from finetune.evaluate.report import as_json, terminal

    asked = _Asked(**flags)
    done = run(_job(paths, asked), asked.out)
    click.echo(as_json(done) if asked.as_json else terminal(done))
    click.echo(f"report: {asked.out / 'report.html'}", err=True)
    verdicts = {found.verdict for found in done.gates.values()}
    if done.unfinished or "fail" in verdicts:
        sys.exit(1)
    sys.exit(3 if "undecided" in verdicts else 0)


@dataclass(frozen=True)
class _Asked:
    """The options as they were typed."""

    candidates: tuple[str, ...]
    reference: str | None
    gate: float
    out: Path
    schemas: tuple[str, ...]
    limit: int | None
    max_tokens: int
    temperature: float
    concurrency: int
    requests: int | None
    usd: float | None
    price: str | None
    key_from: str | None
    as_json: bool


def _job(paths: tuple[Path, ...], asked: _Asked) -> Job:
    from finetune.asking.budget import Budget
    from finetune.asking.price import Price
    from finetune.evaluate.contestant import contestant
    from finetune.evaluate.evaluation import Job
    from finetune.evaluate.run import Terms
    from provider.settings import Settings

    names = [*asked.candidates, *([asked.reference] if asked.reference else [])]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"{', '.join(names)}: each contestant is named once.")
    settings = Settings()
    made = [contestant(name, settings, asked.out / "switch", asked.key_from) for name in names]
    options = {"max_completion_tokens": asked.max_tokens, "temperature": asked.temperature}
    return Job(
        paths=paths,
        schemas=asked.schemas,
        limit=asked.limit,
        candidates=made[: len(asked.candidates)],
        reference=made[-1] if asked.reference else None,
        budget=Budget(asked.requests, asked.usd),
        price=Price.parse(asked.price),
        terms=Terms(options, asked.concurrency, asked.gate),
    )
