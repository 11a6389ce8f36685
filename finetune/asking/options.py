"""Options of the commands that ask models: lengths, how many at a time, what it may cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
_POSITIVE = click.FloatRange(0, min_open=True)
_OPTIONS = (
    click.option(
        "--max-tokens",
        type=click.IntRange(min=1),
        default=1024,
        show_default=True,
        help="Longest answer.",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(1, 64),
        default=4,
        show_default=True,
        help="Requests at a time.",
    ),
    click.option(
        "--requests", type=click.IntRange(min=1), help="Most requests, all runs together."
    ),
    click.option("--usd", type=_POSITIVE, help="Most US dollars, all runs together."),
)


def asking_options(command: Command) -> Command:
    """--max-tokens, --concurrency, --requests and --usd."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
