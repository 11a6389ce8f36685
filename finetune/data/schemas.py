"""The schema that JSON answers are held to, for all conversations or for one agent's."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jsonschema import FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, validator_for

from finetune.data.member_order import disorder, in_order
from provider.errors import ConfigurationError


class AnswerSchema:
    """A JSON Schema, and what is wrong with an answer under it."""

    def __init__(self, schema: Mapping[str, Any], name: str) -> None:
        self.schema = schema
        self.name = name
        self._validator  # noqa: B018 - a schema that is none is refused now

    def problem(self, value: Any) -> tuple[str, str] | None:
        """`(path, reason)` of the most telling violation; None for a valid value."""
        try:
            error = best_match(self._validator.iter_errors(value))
        except RecursionError:
            return "", "is nested too deeply to be checked"
        return None if error is None else (_path(error), _reason(error))

    def disorder(self, value: Any) -> str | None:
        """The path of the first object whose members are not in the schema's order, which is the
        order in which a constrained model has to write them; None where all are."""
        return disorder(value, self.schema, self.schema)

    def in_order(self, value: Any) -> Any:
        """The value with the members of its objects in the schema's order."""
        return in_order(value, self.schema, self.schema)

    @cached_property
    def _validator(self) -> Validator:
        kind = validator_for(self.schema, default=Draft202012Validator)
        try:
            kind.check_schema(dict(self.schema))
        except SchemaError as error:
            raise ConfigurationError(
                f"The schema {self.name} is no JSON Schema: {error.message} at {error.json_path}."
            ) from error
        return kind(self.schema, format_checker=FormatChecker())


def load_schemas(given: Sequence[str]) -> dict[str | None, AnswerSchema]:
    """Schemas by agent (None: for every other) from `FILE`, `module:Model`, or `AGENT=` before it.

    Raises `ConfigurationError`.
    """
    loaded: dict[str | None, AnswerSchema] = {}
    for item in given:
        agent, sign, source = item.partition("=")
        key, source = (agent, source) if sign else (None, item)
        if key in loaded:
            raise ConfigurationError(f"--schema {item}: there is one for {key or 'all'} already.")
        loaded[key] = AnswerSchema(_load(source), source)
    return loaded


def _load(source: str) -> Mapping[str, Any]:
    path = Path(source)
    if path.is_file() or path.suffix == ".json":
        return _read(path)
    module, sign, name = source.partition(":")
    if not sign:
        raise ConfigurationError(
            f"--schema {source}: no such file; for a model write module:Model."
        )
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        model = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"--schema {source} cannot be imported ({error}).") from error
    return _of_model(model, source)


def _of_model(model: Any, source: str) -> Mapping[str, Any]:
    from pydantic import PydanticUserError, TypeAdapter

    if isinstance(model, dict):
        return model
    try:
        if inspect.isroutine(model):
            raise PydanticUserError("a function", code=None)
        return TypeAdapter(model).json_schema()
    except PydanticUserError as error:
        raise ConfigurationError(
            f"--schema {source} is neither a Pydantic model nor a schema ({error.message})."
        ) from error


def _read(path: Path) -> Mapping[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"--schema {path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"--schema {path} is no JSON ({error}).") from error
    if isinstance(read, dict):
        form = read.get("json_schema", read)  # a whole response_format is taken too
        if isinstance(form, dict) and isinstance(form.get("schema"), dict):
            return form["schema"]  # type: ignore[no-any-return]
        return read
    raise ConfigurationError(f"--schema {path} holds no object; expected a JSON Schema.")


def _path(error: ValidationError) -> str:
    return error.json_path.removeprefix("$").removeprefix(".")


def _reason(error: ValidationError) -> str:
    said = error.message
    return said if len(said) <= 160 else f"{said[:80]} ... {said[-70:]}"
