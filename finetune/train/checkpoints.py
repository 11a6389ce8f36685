"""Checkpoint folders that are whole or not there.

A checkpoint counts once its list of files, `complete.json`, is in it, and that is written last,
after everything else has reached the disk. A kill in the middle leaves a folder without it, a
truncated file disagrees with it: both are recognised, named and left out.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from finetune.durable import sha256, sync_file, write_durably

SEAL = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def step_of(folder: Path) -> int:
    """The step in the name `checkpoint-120`."""
    found = _NAME.fullmatch(folder.name)
    return int(found[1]) if found else -1


def listed(run: Path) -> list[Path]:
    """Every checkpoint folder, whole or not, oldest first."""
    folders = [path for path in run.glob("checkpoint-*") if path.is_dir() and step_of(path) >= 0]
    return sorted(folders, key=step_of)


def seal(folder: Path) -> None:
    """Bring every file to the disk, then list them with size and digest."""
    files = {}
    for path in _files(folder):
        sync_file(path)
        files[path.relative_to(folder).as_posix()] = [path.stat().st_size, sha256(path)]
    write_durably(folder / SEAL, json.dumps({"files": files}, indent=1).encode())


def why_not(folder: Path) -> str | None:
    """The reason why a checkpoint cannot be used, None if it is whole."""
    try:
        files = json.loads((folder / SEAL).read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return "it was not written to its end"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its {SEAL} cannot be read ({error})"
    for name, (size, digest) in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
        if sha256(path) != digest:
            return f"{name} has other contents than were written"
    return None


def newest(run: Path) -> tuple[Path | None, dict[Path, str]]:
    """The latest whole checkpoint, and those after it with the reason why they are none."""
    skipped: dict[Path, str] = {}
    for folder in reversed(listed(run)):
        reason = why_not(folder)
        if reason is None:
            return folder, skipped
        skipped[folder] = reason
    return None, skipped


def rotate(run: Path, keep: int) -> None:
    """Remove all but the `keep` latest whole checkpoints. Nothing that is not whole is counted."""
    whole = [folder for folder in listed(run) if (folder / SEAL).is_file()]
    for folder in whole[:-keep]:
        discard(folder)


def discard(folder: Path) -> None:
    """Remove a folder; its seal goes first, so that a kill leaves nothing that looks whole."""
    (folder / SEAL).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != SEAL)
