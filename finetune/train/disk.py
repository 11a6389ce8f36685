"""Telling a full disk from a fault: torch and safetensors have words of their own for it."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors import SafetensorError

DISK_ERRORS = (OSError, RuntimeError, SafetensorError)
"""What a failed write raises: Python's own, torch.save's, safetensors'."""
_WORDS = ("space", "write", "i/o", "file too large", "quota")


def no_room(folder: Path, error: Exception) -> bool:
    """Whether a failed write into `folder` is the disk's fault."""
    if isinstance(error, OSError):
        return True
    said = str(error).lower()
    full = shutil.disk_usage(folder).free < 1 << 20
    return full or any(word in said for word in _WORDS)
