"""What is loaded, said once at start and in `/v1/models`: size, device, precision, licence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub.repocard import metadata_load
from yaml import YAMLError  # type: ignore[import-untyped]

from provider.errors import ConfigurationError

MANIFEST = "sllm.json"
"""What a folder says about itself beyond transformers' files. All keys optional: `name`, `demo`
(true: trained for demonstration, not the architecture owner's weights), `licence`, `description`,
and `embedding` (see `provider.engine.embedding_facts`)."""

UNKNOWN_LICENCE = "unknown"
Layout = Literal["original", "llama"]


@dataclass(frozen=True)
class ModelCard:
    """Facts of a loaded model. `parameters` counts tied weights once; `layout` is `original` for
    EXAONE-3.x in its own names and `llama` for every architecture of transformers' own."""

    id: str
    architecture: str
    parameters: int
    device: str
    dtype: str
    quantization: str | None
    licence: str
    context_length: int
    layout: Layout
    demo: bool
    chat_template_sha256: str
    revision: str | None = None
    description: str = ""

    def lines(self) -> list[str]:
        """For a terminal."""
        precision = self.dtype + (f", weights {self.quantization}" if self.quantization else "")
        shown = [
            f"model     {self.id}" + (f" @ {self.revision}" if self.revision else ""),
            f"          {self.architecture}, {self.layout} layout, {count(self.parameters)} "
            "parameters",
            f"device    {self.device}, {precision}",
            f"context   {self.context_length:,} tokens",
            f"licence   {self.licence}",
            f"template  sha256 {self.chat_template_sha256}",
        ]
        if self.demo:
            shown.insert(1, "          demo checkpoint, not EXAONE's own weights")
        return shown


def count(parameters: int) -> str:
    """`932,480` as `0.93 M`, `2405327360` as `2.41 B`."""
    if parameters >= 10**9:
        return f"{parameters / 10**9:.2f} B"
    return f"{parameters / 10**6:.2f} M"


def read_manifest(folder: Path) -> dict[str, Any]:
    """`sllm.json` of a folder, empty when there is none."""
    return read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; `ConfigurationError` when the file is missing or is none."""
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{path.parent} has no {path.name}; expected a complete model folder; "
            "copy or download it again."
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error}); expected JSON; copy or download it again."
        ) from error
    if not isinstance(parsed, dict):
        raise ConfigurationError(f"{path} holds a {type(parsed).__name__}; expected a JSON object.")
    return parsed


def licence(folder: Path) -> str:
    """The licence that the folder states: manifest, README front matter, LICENSE or config."""
    manifest, stated = read_manifest(folder), _front_matter(folder)
    named = stated.get("license_name") if stated.get("license") == "other" else None
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    found = (
        manifest.get("licence")
        or manifest.get("license")
        or named
        or stated.get("license")
        or _licence_title(folder)
        or config.get("license")
    )
    return str(found) if found else UNKNOWN_LICENCE


def _front_matter(folder: Path) -> dict[str, Any]:
    readme = folder / "README.md"
    if not readme.is_file():
        return {}
    try:
        return metadata_load(readme) or {}
    except (
        ValueError,
        OSError,
        YAMLError,
    ):  # a README that is prose only, or front matter that is no YAML
        return {}


def _licence_title(folder: Path) -> str | None:
    for path in sorted(folder.glob("LICENSE*")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        title = next((line.strip(" #*\t") for line in lines if line.strip(" #*\t")), None)
        if title:
            return title[:80]
    return None
