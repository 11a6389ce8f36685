"""What a training stands on, as digests: the base's weights and configuration.

A resume compares them: optimiser state and adapter were learnt on exactly these weights, and on
others the curve would bend without a word.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from finetune.durable import sha256
from provider.engine.model_card import read_json

CONFIG = "config.json"
_NO_MATTER = ("transformers_version", "_name_or_path", "_commit_hash")
"""What a copy of the same model may state otherwise."""


def fingerprint(folder: Path) -> dict[str, str]:
    """SHA-256 by file: every safetensors file, and `config.json` by what it says."""
    files = {path.name: _digest(path) for path in sorted(folder.glob("*.safetensors"))}
    stated = {k: v for k, v in read_json(folder / CONFIG).items() if k not in _NO_MATTER}
    said = json.dumps(stated, sort_keys=True, ensure_ascii=False).encode()
    return {CONFIG: hashlib.sha256(said).hexdigest(), **files}


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """One phrase for each file of the base that is not what it was."""
    for name in sorted({*before, *now}):
        if name not in now:
            yield f"the base's {name} is gone"
        elif name not in before:
            yield f"the base's {name} is new"
        elif before[name] != now[name]:
            yield f"the base's {name} has other contents"


def _digest(path: Path) -> str:
    found = path.stat()
    return _remembered(str(path.resolve()), found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=256)
def _remembered(path: str, size: int, changed: int) -> str:
    """Read once by a process that trains several adapters on one base."""
    return sha256(Path(path))
