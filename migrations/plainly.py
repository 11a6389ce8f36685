"""What goes wrong in a command of `sllm db`, as one sentence on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import click

from provider.errors import ApiError, ConfigurationError

P = ParamSpec("P")
T = TypeVar("T")


def plainly(command: Callable[P, T]) -> Callable[P, T]:
    """A failure that is not ours ends the command with one sentence and exit code 2."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except click.exceptions.ClickException:
            raise
        except Exception as error:
            said = sentence(error)
            if said is None:
                raise
            click.echo(f"sllm: {said}", err=True)
            sys.exit(2)

    return wrapped


def sentence(error: Exception) -> str | None:
    """What to tell an operator; None for a fault of our own, which needs its traceback."""
    if isinstance(error, ConfigurationError):
        return str(error)
    if isinstance(error, ApiError):
        return f"The embedding provider failed: {_line(error)} What was written stays; repeat it."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; expected a path that can be used."
    return _of_the_database(error) or _of_the_sdk(error)


def _of_the_database(error: Exception) -> str | None:
    import psycopg
    from sqlalchemy.exc import DBAPIError

    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg.Error):
        return None
    if isinstance(cause, psycopg.errors.DiskFull):
        way_out = "Free some space, then repeat it; what was committed stays."
    elif "to create extension" in str(cause):
        way_out = "As a superuser run in this database: CREATE EXTENSION vector; then repeat it."
    elif isinstance(cause, psycopg.errors.InsufficientPrivilege):
        way_out = "Run it as the owner of the table, or grant what is missing."
    elif isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
        way_out = "Repeat it when the database answers again; what was committed stays."
    else:
        way_out = "Nothing of this step was kept."
    return f"The database failed: {_line(cause)} {way_out}"


def _of_the_sdk(error: Exception) -> str | None:
    """The official SDK's errors, told by their status so that it is not imported for them."""
    status = getattr(error, "status_code", None)
    if status is None and type(error).__module__.partition(".")[0] != "openai":
        return None
    return f"The embedding provider failed: {_line(error)} What was written stays; repeat it."


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:400] or type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."
