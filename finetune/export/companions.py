"""What belongs to a model beside its weights: tokenizer, template, generation settings, licence."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from provider.engine.model_card import MANIFEST, read_json

_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".msgpack", ".h5", ".py"}
_REPLACED = {"config.json", "model.safetensors.index.json", "merge.json"}
_OF_THE_BASE = ("name", "description", "figures", "loss", "data", "recipe")
"""Keys of `sllm.json` that name the base and tell how it was trained and measured."""
_CARD = "README.md"


def copy_companions(source: Path, destination: Path) -> None:
    """Copies every file that is neither weights nor code, byte for byte; `config.json` is written
    by who calls. `sllm.json` loses what was true of the base alone, and the model card says that it
    is the base's."""
    for path in sorted(source.iterdir()):
        if path.is_file() and path.suffix not in _WEIGHTS and path.name not in _REPLACED:
            shutil.copy(path, destination / path.name)
    if (destination / MANIFEST).is_file():
        stated = read_json(destination / MANIFEST)
        kept = {key: value for key, value in stated.items() if key not in _OF_THE_BASE}
        text = json.dumps(kept, indent=2, ensure_ascii=False)
        (destination / MANIFEST).write_text(text + "\n", encoding="utf-8")
    if (destination / _CARD).is_file():
        _mark_card(destination / _CARD)


def _mark_card(path: Path) -> None:
    """Puts the note after the front matter, which states the licence."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    note = "> Weights changed by fine-tuning (see `merge.json`); this is the base model's card.\n\n"
    front = re.match(r"---\n.*?\n---\n\s*", text, re.DOTALL)
    cut = front.end() if front else 0
    path.write_text(text[:cut] + note + text[cut:], encoding="utf-8", errors="surrogateescape")
