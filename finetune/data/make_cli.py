"""`sllm finetune data identity` and `expand`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from finetune.asking.options import asking_options
from finetune.data.options import A_PATH, PATHS, SEED, plainly


@click.command()
@click.option("--name", required=True, help="What the model is called.")
@click.option("--maker", required=True, help="Who made it, as it should say.")
@click.option(
    "--language",
    "languages",
    multiple=True,
    type=click.Choice(["ko", "en", "ja"]),
    default=("ko", "en", "ja"),
    show_default=True,
    help="May be given several times.",
)
@click.option("--count", type=click.IntRange(min=1), help="So many pairs; default: all.")
@click.option("--agent-type", help="The agent that the pairs belong to.")
@click.option("--system", help="A system message before each pair.")
@click.option("--out", type=A_PATH, required=True, metavar="FILE", help="The file of pairs.")
@SEED
@plainly
def identity(
    name: str,
    maker: str,
    languages: tuple[str, ...],
    count: int | None,
    agent_type: str | None,
    system: str | None,
    out: Path,
    seed: int,
) -> None:
    """Make pairs that teach a model its name and maker: "Who are you?" in three languages."""
    from finetune.data.identity import identity as pairs
    from finetune.data.write import write_lines

    records = pairs(name, maker, languages, count, seed, agent_type=agent_type, system=system)
    click.echo(f"{out}: {write_lines(out, records):,} conversations")


@click.command()
@PATHS
@click.option("--out", type=A_PATH, required=True, metavar="FILE", help="The new examples.")
@click.option("--model", help="The model that writes; default: the settings' own.")
@click.option(
    "--per-seed",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    help="New examples tried for each seed.",
)
@asking_options
@click.option(
    "--price", metavar="0.15:0.60", help="US dollars per million prompt and answer tokens."
)
@click.option(
    "--near",
    type=click.FloatRange(0, 1),
    default=0.85,
    show_default=True,
    help="Resemblance from which a new question is too near; 0: only equal ones are.",
)
@click.option(
    "--schema",
    "schemas",
    multiple=True,
    metavar="[AGENT=]FILE|module:Model",
    help="What answers are held to, for seeds without a response_format.",
)
@plainly
def expand(
    paths: tuple[Path, ...],
    out: Path,
    model: str | None,
    per_seed: int,
    requests: int | None,
    usd: float | None,
    price: str | None,
    near: float,
    schemas: tuple[str, ...],
    max_tokens: int,
    concurrency: int,
) -> None:
    """Make new examples out of seed conversations, written by the model that the settings name.

    Run it again after a crash or with a larger budget: it goes on, and asks nothing twice.
    Exits with 1 if the budget or the endpoint ended before the work did.
    """
    from finetune.asking.budget import Budget
    from finetune.asking.price import Price
    from finetune.data.expand import Plan
    from finetune.data.expand_run import run
    from finetune.data.read import read_conversations
    from finetune.data.schemas import load_schemas

    loaded = load_schemas(schemas)
    seeds = [seed for path in paths for seed in read_conversations(path)]
    plan = Plan(model or "", per_seed, near, max_tokens, loaded)
    limits = Budget(requests, usd)
    said, complete = run(seeds, plan, out, limits, Price.parse(price), concurrency)
    click.echo(said)
    sys.exit(0 if complete else 1)
