"""A configuration's file: YAML with keys below the top, each of them once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from provider.errors import ConfigurationError


class _Once(yaml.SafeLoader):  # type: ignore[misc]
    """YAML itself takes the last of two equal keys without a word."""


def _mapping(loader: Any, node: Any) -> dict[Any, Any]:
    names = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for place, name in enumerate(names):
        if name in names[:place]:
            line = node.value[place][0].start_mark.line + 1
            raise yaml.YAMLError(f"the key {name!r} stands twice, again in line {line}")
    read: dict[Any, Any] = yaml.SafeLoader.construct_mapping(loader, node, deep=True)
    return read


_Once.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """Raises `ConfigurationError` for what cannot be read or has no keys."""
    try:
        stated = yaml.load(path.read_text(encoding="utf-8-sig"), _Once)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error}); expected a YAML file."
        ) from error
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise ConfigurationError(f"{path} is no YAML ({line}); expected `key: value`.") from error
    if not isinstance(stated, dict):
        raise ConfigurationError(
            f"{path} holds {type(stated).__name__}; expected `key: value` lines."
        )
    return stated
