"""`sllm finetune data check`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from finetune.data.options import A_PATH, PATHS, plainly
from provider.errors import ConfigurationError

if TYPE_CHECKING:
    from finetune.data.check import Checked


@click.command()
@PATHS
@click.option(
    "--schema",
    "schemas",
    multiple=True,
    metavar="[AGENT=]FILE|module:Model",
    help="What JSON answers are held to; several with AGENT= for single agents.",
)
@click.option("--tokenizer", type=A_PATH, metavar="FOLDER", help="Count tokens as training does.")
@click.option(
    "--max-length",
    type=click.IntRange(min=8),
    default=2048,
    show_default=True,
    help="Most tokens of a conversation.",
)
@click.option(
    "--validation",
    multiple=True,
    type=A_PATH,
    metavar="PATH",
    help="Validation data: checked as well, and for leaks.",
)
@click.option(
    "--near",
    type=click.FloatRange(0, 1),
    default=0.85,
    show_default=True,
    help="Resemblance from which texts nearly repeat; 0: not looked for.",
)
@click.option("--fix", type=A_PATH, metavar="OUT", help="Write what is usable, mended, to OUT.")
@click.option("--redact", is_flag=True, help="With --fix: replace personal data.")
@click.option("--report", type=A_PATH, metavar="DIR", help="Write report.html, .png and .json.")
@click.option("--all", "everything", is_flag=True, help="Print every finding.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@plainly
def check(
    paths: tuple[Path, ...],
    schemas: tuple[str, ...],
    tokenizer: Path | None,
    max_length: int,
    validation: tuple[Path, ...],
    near: float,
    fix: Path | None,
    redact: bool,
    report: Path | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Say everything that is wrong with training data: file, line, field, reason.

    Exits with 1 if there are errors; warnings do not count.
    """
    from finetune.data.check import Limits
    from finetune.data.check import check as run
    from finetune.data.lengths import counter
    from finetune.data.mend import mend
    from finetune.data.report import write_report
    from finetune.data.schemas import load_schemas
    from finetune.data.write import free

    if redact and fix is None:
        raise ConfigurationError("--redact needs --fix OUT: the data themselves are not changed.")
    if fix is not None:
        free(fix)
    loaded = load_schemas(schemas)
    count = None if tokenizer is None else counter(tokenizer)
    checked = run(paths, Limits(loaded, count, max_length, near), validation)
    _say(checked, everything, as_json)
    if report is not None:
        click.echo(f"report: {write_report(checked, report, max_length)}", err=True)
    if fix is not None:
        click.echo(f"{fix}: {mend(paths, fix, checked.bad_lines, loaded, redact)}", err=True)
    sys.exit(1 if checked.errors else 0)


def _say(checked: Checked, everything: bool, as_json: bool) -> None:
    from finetune.data.summary import figures, terminal

    if as_json:
        problems = [problem.as_dict() for problem in checked.problems]
        body = {**figures(checked), "findings": problems}
        click.echo(json.dumps(body, ensure_ascii=False, indent=1))
    else:
        click.echo(terminal(checked, everything))
