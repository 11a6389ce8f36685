"""The adapter as the server takes it: PEFT's two files, a manifest, a README with its licence.

What the manifest says is what `provider.engine.lora` checks before it serves the adapter; the rest
(configuration, figures, data) is for people.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finetune.durable import sha256, write_durably
from provider.engine.model_card import ModelCard

CONFIG, WEIGHTS, MANIFEST = "adapter_config.json", "adapter_model.safetensors", "manifest.json"
_OPEN = frozenset({"apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0"})
_LIBRARIES = ("torch", "transformers", "peft", "trl")


@dataclass(frozen=True)
class Origin:
    """Where an adapter comes from. `metrics` are the figures of the state that was taken."""

    name: str
    licence: str
    data_sha256: str
    examples: int
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]


def write_adapter(source: Path, folder: Path, base: ModelCard, origin: Origin) -> dict[str, Any]:
    """Publish the adapter saved in `source` as `folder`, whole or not at all; returns the manifest.

    A folder that was there before is replaced at the end. Raises OSError when the disk is full,
    with nothing changed.
    """
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        stated = json.loads((source / CONFIG).read_text(encoding="utf-8"))
        stated |= {"base_model_name_or_path": base.id, "inference_mode": True}
        write_durably(fresh / CONFIG, json.dumps(stated, indent=2, sort_keys=True).encode())
        write_durably(fresh / WEIGHTS, (source / WEIGHTS).read_bytes())
        manifest = _manifest(fresh / WEIGHTS, stated, base, origin)
        write_durably(fresh / "README.md", _readme(manifest).encode())
        form = json.dumps(manifest, ensure_ascii=False, indent=2)
        write_durably(fresh / MANIFEST, form.encode())
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return manifest


def _manifest(
    weights: Path, stated: Mapping[str, Any], base: ModelCard, origin: Origin
) -> dict[str, Any]:
    return {
        "name": origin.name,
        "base_model": base.id,
        "base_revision": base.revision,
        "base_quantization": base.quantization,
        "layout": base.layout,
        "target_modules": sorted(stated["target_modules"]),
        "chat_template_sha256": base.chat_template_sha256,
        "adapter_sha256": sha256(weights),
        "data_sha256": origin.data_sha256,
        "examples": origin.examples,
        "licence": origin.licence,
        "metrics": dict(origin.metrics),
        "config": dict(origin.config),
        "made_with": {name: version(name) for name in _LIBRARIES},
    }


def _readme(manifest: Mapping[str, Any]) -> str:
    figures = "\n".join(f"- {name}: {value}" for name, value in manifest["metrics"].items())
    return (
        f"---\n{_licence(manifest['licence'])}"
        f"base_model: {json.dumps(manifest['base_model'])}\nlibrary_name: peft\n---\n\n"
        f"# {manifest['name']}\n\nA LoRA adapter for {manifest['base_model']} in "
        f"{manifest['layout']} layout, trained on {manifest['examples']} examples.\n\n{figures}\n"
    )


def _licence(name: str) -> str:
    """A model card has an identifier for the open ones only; any other is `other` with its name."""
    if name in _OPEN:
        return f"license: {name}\n"
    return f"license: other\nlicense_name: {json.dumps(name)}\n"
