"""Where the demo models are: folders that `finetune` ships, met as folders and never imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from provider.errors import ConfigurationError
from provider.settings import DEMO

LANGUAGE = "exaone-demo"
EMBEDDER = "embedder-demo"


def located(value: str, name: str, setting: str) -> str:
    """`value`, a folder or hub id, with `demo` replaced by the folder of the demo model `name`.

    Raises `ConfigurationError` where that is not installed.
    """
    if value != DEMO:
        return value
    spec = importlib.util.find_spec("finetune")
    rooms = spec.submodule_search_locations if spec is not None else None
    for room in rooms or ():
        folder = Path(room) / "demo" / "artifacts" / name
        if (folder / "config.json").is_file():
            return str(folder)
    raise ConfigurationError(
        f"{setting}={DEMO!r} is the demo model of the project's repository, which is not there; "
        "expected it, a folder or a hub id; run `make demo-model`, or name a model."
    )
