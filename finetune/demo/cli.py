"""`python -m finetune.demo`: make the demo models, or measure them."""

from pathlib import Path

import click

from finetune.demo.artifacts import EMBEDDER_DEMO, EXAONE_DEMO


@click.group()
def demo() -> None:
    """The demo models: train them from scratch, or print their held-out figures."""


@demo.command()
@click.option("--out", type=click.Path(path_type=Path), default=EXAONE_DEMO, show_default=False)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--quick", is_flag=True, help="About three minutes instead of the full recipe.")
def train(out: Path, seed: int, quick: bool) -> None:
    """Train the demo checkpoint and print its held-out figures."""
    from finetune.demo.evaluate import table
    from finetune.demo.pipeline import make_checkpoint
    from finetune.demo.readme import write_figures
    from finetune.demo.train import Recipe

    recipe = Recipe.quick(seed) if quick else Recipe(seed=seed)
    figures = table(make_checkpoint(out, recipe))
    if out == EXAONE_DEMO:
        write_figures("exaone-demo", figures)
    click.echo(figures)


@demo.command("evaluate")
@click.argument("path", type=click.Path(exists=True, path_type=Path), default=EXAONE_DEMO)
@click.option("--samples", type=click.IntRange(min=1), default=200, show_default=True)
def evaluate_checkpoint(path: Path, samples: int) -> None:
    """Print a checkpoint's held-out figures: under the schema, free, and an untrained twin."""
    from finetune.demo.evaluate import evaluate, table

    click.echo(table(evaluate(path, samples)))


@demo.command()
@click.option("--out", type=click.Path(path_type=Path), default=EMBEDDER_DEMO, show_default=False)
@click.option("--seed", type=int, default=0, show_default=True)
def embedder(out: Path, seed: int) -> None:
    """Train the demo embedder and print its held-out figures."""
    from finetune.demo.card import embedder_table
    from finetune.demo.embedder import EmbedderRecipe, make_embedder
    from finetune.demo.readme import write_figures

    figures = embedder_table(make_embedder(out, EmbedderRecipe(seed=seed)))
    if out == EMBEDDER_DEMO:
        write_figures("embedder-demo", figures)
    click.echo(figures)


@demo.command("inquiries")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--count", type=click.IntRange(min=1), default=2400, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--held-out", is_flag=True, help="Questions that are never written without this.")
def write_inquiries(out: Path, count: int, seed: int, held_out: bool) -> None:
    """Write training data of a second task: what an inquiry to a city is about."""
    from finetune.demo.inquiries import inquiries
    from provider.protocol.serial import dumps

    try:
        lines = "".join(dumps(record) + "\n" for record in inquiries(count, seed, held_out))
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="--count") from None
    out.write_text(lines, encoding="utf-8")
    click.echo(f"{out}: {count} conversations")


@demo.command("all")
@click.pass_context
def everything(context: click.Context) -> None:
    """Train both demo models into the folders that are shipped."""
    context.invoke(train, out=EXAONE_DEMO, seed=0, quick=False)
    context.invoke(embedder, out=EMBEDDER_DEMO, seed=0)
