"""A sweep's file: the training that all runs share, and the values that they differ in.

train:                      # any key of a training's configuration
  base: models/exaone-2.4b
  output: runs/sweep
vary:
  r: [16, 32, 64, 128]
  learning_rate: [1.0e-4, 2.0e-4, 5.0e-4]
  ratio: ["6:2:2", "5:3:2", "7:2:1"]     # of the sources below, instead of train's data
sources: [domain.jsonl, general.jsonl, identity.jsonl]
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.data.mix import ratio
from finetune.train.config import TrainConfig, parse_config
from finetune.train.elsewhere import unknown_key
from finetune.yaml_file import read_yaml
from provider.errors import ConfigurationError

RATIO = "ratio"
_KEYS = {"train", "vary", "sources"}


@dataclass(frozen=True)
class Point:
    """One run: `values` are what sets it apart, `name` is its folder's."""

    name: str
    values: Mapping[str, Any]
    config: TrainConfig


@dataclass(frozen=True)
class Sweep:
    """`sources` are mixed by each point's ratio; empty when the data are the same for all."""

    output: Path
    points: tuple[Point, ...]
    sources: tuple[Path, ...]

    @property
    def varied(self) -> list[str]:
        return list(self.points[0].values)


def load_sweep(path: Path) -> Sweep:
    """Read and check every point. Raises `ConfigurationError` in one sentence."""
    stated = _read(path)
    train, vary = stated.get("train"), stated.get("vary")
    if not isinstance(train, dict) or not isinstance(vary, dict) or not vary:
        raise ConfigurationError(f"{path} needs `train:` and `vary:`, each with keys below it.")
    sources = tuple(Path(str(source)) for source in stated.get("sources") or ())
    _check(path, vary, sources)
    if train.get("per"):
        raise ConfigurationError(
            f"{path}: train.per cannot be swept; sweep one agent's data "
            "(`sllm finetune data by-agent` divides them), and leave per out."
        )
    if "output" not in train:
        raise ConfigurationError(f"{path}: 'output' is missing under train; give a folder.")
    output = Path(str(train["output"]))
    points = tuple(
        _point(path, train, dict(zip(vary, values, strict=True)), output)
        for values in itertools.product(*vary.values())
    )
    _check_names(path, points)
    return Sweep(output, points, sources)


def _read(path: Path) -> dict[str, Any]:
    stated = read_yaml(path)
    if extra := ", ".join(sorted(map(str, set(stated) - _KEYS))):
        raise ConfigurationError(f"{path}: expected the keys train, vary and sources, got {extra}.")
    return stated


def _check(path: Path, vary: Mapping[str, Any], sources: tuple[Path, ...]) -> None:
    for key in sorted({"per", "output", "name"} & set(vary)):
        raise ConfigurationError(f"{path}: vary.{key} cannot vary; remove it.")
    for key, values in vary.items():
        if not isinstance(values, list) or not values:
            raise ConfigurationError(f"{path}: vary.{key} must be a list of values.")
        if key == RATIO:
            for value in values:
                ratio(str(value), len(sources))
        elif key not in TrainConfig.model_fields:
            raise ConfigurationError(
                f"{path}: vary: {unknown_key(str(key), TrainConfig.model_fields)}"
            )
    if sources and RATIO not in vary:
        raise ConfigurationError(f"{path}: sources are mixed by vary.ratio; add it, or use data.")


def _check_names(path: Path, points: tuple[Point, ...]) -> None:
    """Two runs in one folder would be one run, and its figures would stand in the table twice."""
    names = [point.name for point in points]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(
            f"{path}: two combinations would share the folder {twice[0]!r}; expected values that "
            "differ in their last part; list each once, or rename one of the folders they name."
        )


def _point(path: Path, train: Mapping[str, Any], values: dict[str, Any], output: Path) -> Point:
    name = "_".join(f"{key}-{_short(value)}" for key, value in values.items())
    own = {key: value for key, value in values.items() if key != RATIO}
    mixed = {"data": str(output / name / "data.jsonl")} if RATIO in values else {}
    settled = {**train, **own, **mixed, "output": str(output / name)}
    return Point(name, values, parse_config(settled, path))


def _short(value: Any) -> str:
    text = str(value).rstrip("/").rsplit("/", 1)[-1]
    return "".join(c if c.isalnum() or c in ".-" else "-" for c in text)
