"""The configuration's keys as flags of the command line, made from the one place that has them."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from finetune.train.config import TrainConfig

Command = TypeVar("Command", bound=Callable[..., Any])


def config_options(command: Command) -> Command:
    """Adds a flag for every key of `TrainConfig`; one that is not given is None."""
    for name, field in reversed(TrainConfig.model_fields.items()):
        command = _option(name, field)(command)
    return command


def stated(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given, as keys and values of a configuration."""
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in given.items()}


def _option(name: str, field: FieldInfo) -> Callable[[Command], Command]:
    flag, help_text = name.replace("_", "-"), f"{field.description} {_default(field)}".strip()
    kind = _without_none(field.annotation)
    if kind is bool:
        return click.option(f"--{flag}/--no-{flag}", name, default=None, help=help_text)
    if get_origin(kind) is list:
        return click.option(f"--{flag}", name, multiple=True, help=f"{help_text} Repeatable.")
    return click.option(f"--{flag}", name, type=_type(kind), default=None, help=help_text)


def _type(kind: Any) -> Any:
    if get_origin(kind) is Literal:
        return click.Choice([str(value) for value in get_args(kind)])
    if kind is Path:
        return click.Path(path_type=Path)
    return kind


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return next(each for each in get_args(kind) if each is not type(None))
    return kind


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "[required]"
    if field.default is None:
        return ""
    value = " ".join(field.default) if isinstance(field.default, list) else field.default
    return f"[default: {str(value).lower() if isinstance(value, bool) else value}]"
