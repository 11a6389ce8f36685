"""`sllm shadow report`: what the shadow journal says."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from provider.errors import ConfigurationError
from provider.settings import Settings


@click.group()
def shadow() -> None:
    """Compare the two providers on a sample of live requests."""


@shadow.command("report")
@click.argument("journals", nargs=-1, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--html",
    "page_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a page.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option(
    "--worst",
    default=5,
    show_default=True,
    type=click.IntRange(min=0),
    help="How many worst examples to keep.",
)
def report_(journals: tuple[Path, ...], page_path: Path | None, as_json: bool, worst: int) -> None:
    """Agreement per field, validity, latency, cost per day and the worst examples.

    JOURNALS default to LLM_SHADOW_PATH and what was rotated out of it.
    """
    import dataclasses
    import json

    from provider.shadow_report import page, read, report, text

    try:
        paths = _existing(list(journals))
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    found = report(read(paths), worst)
    click.echo(
        json.dumps(dataclasses.asdict(found), ensure_ascii=False) if as_json else text(found)
    )
    if page_path is not None:
        try:
            page_path.write_text(page(found), encoding="utf-8")
        except OSError as error:
            click.echo(f"--html {str(page_path)!r} cannot be written: {error.strerror}.", err=True)
            sys.exit(2)
        click.echo(f"Wrote {page_path}")


def _existing(journals: list[Path]) -> list[Path]:
    """The journals that were named, or those of the settings.

    Raises `ConfigurationError` where one is not there.
    """
    wanted = journals or [Settings().llm_shadow_path]
    paths = journals or _rotated(wanted[0])
    missing = [path for path in paths or wanted if not path.exists()]
    if missing:
        raise ConfigurationError(
            f"There is no shadow journal at {missing[0]}; LLM_SHADOW=local (or openai) writes one."
        )
    return paths


def _rotated(path: Path) -> list[Path]:
    older = sorted(path.parent.glob(f"{path.stem}.*{path.suffix}")) if path.parent.exists() else []
    return [*older, path] if path.exists() or older else []
