"""`sllm lint`: whether a schema works on both sides."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from provider.protocol.schema.findings import Finding


@click.command()
@click.argument("source")
@click.option("--strict/--no-strict", default=True, help="Whether OpenAI is asked with strict.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def lint(source: str, strict: bool, as_json: bool) -> None:
    """Check SOURCE, a SCHEMA.json file or module:Model, for OpenAI's strict mode and for here.

    Exits with 1 if either side would refuse it.
    """
    from provider.protocol.schema.lint import lint as check

    schema = _load(source)
    found = check(schema, strict=strict)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(f) for f in found], ensure_ascii=False, indent=2))
    else:
        _print(source, found, strict)
    sys.exit(1 if any(f.refuses for f in found) else 0)


def _print(source: str, found: list[Finding], strict: bool) -> None:
    sides = "OpenAI (strict) and the local provider" if strict else "the local provider"
    if not found:
        click.echo(f"{source}: {sides} take it and enforce all of it.")
    for finding in found:
        side = "OpenAI" if finding.side == "openai" else "local"
        verb = "refuses" if finding.refuses else "notes"
        click.echo(f"#{finding.path}  {side} {verb}: {finding.message}")
        if finding.mend:
            click.echo(f"    mend: {finding.mend}")


def _load(source: str) -> Any:
    """The JSON Schema of a file or of a Pydantic model."""
    path = Path(source)
    if path.suffix == ".json" or path.exists():
        return _read(path)
    module, _, name = source.partition(":")
    if not name:
        raise click.UsageError(f"'{source}' is no file; for a model write module:Model.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        model = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise click.UsageError(f"cannot import '{source}': {error}.") from error
    if isinstance(model, dict):
        return model
    return _schema_of(model, source)


def _schema_of(model: Any, source: str) -> Any:
    """As the official SDK sends it, where it can: that is what OpenAI gets to see."""
    from openai.lib._pydantic import to_strict_json_schema
    from pydantic import BaseModel, PydanticUserError, TypeAdapter

    if isinstance(model, type) and issubclass(model, BaseModel):
        return to_strict_json_schema(model)
    try:
        return TypeAdapter(model).json_schema()
    except PydanticUserError as error:
        raise click.UsageError(f"'{source}' is neither a model nor a schema: {error}") from error


def _read(path: Path) -> Any:
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.UsageError(f"cannot read '{path}': {error.strerror}.") from error
    except ValueError as error:
        raise click.UsageError(f"'{path}' is not JSON: {error}.") from error
    wrapped = schema.get("json_schema", schema) if isinstance(schema, dict) else schema
    if isinstance(wrapped, dict) and isinstance(wrapped.get("schema"), dict):
        return wrapped["schema"]  # a whole response_format
    return schema
