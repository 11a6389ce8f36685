"""What the data commands' options and errors have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from provider.errors import ConfigurationError

P = ParamSpec("P")
T = TypeVar("T")


def plainly(command: Callable[P, T]) -> Callable[P, T]:
    """What cannot work ends the command with one sentence and exit code 2."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except ConfigurationError as error:
            click.echo(f"sllm: {error}", err=True)
            sys.exit(2)

    return wrapped


A_PATH = click.Path(path_type=Path)
PATHS = click.argument("paths", nargs=-1, required=True, type=A_PATH)
SEED = click.option("--seed", type=int, default=0, show_default=True, help="Of the choice.")
