"""Compiles this folder's C files once per machine, with the compiler at hand.

Nothing here is needed: where there is no C compiler, or its work does not pass the checks, the
engine computes with torch alone. The library is kept in `$XDG_CACHE_HOME/sllm` (`~/.cache/sllm`),
named by what it was made of, and is loaded only if nobody else could have written it. The file ends
with its own digest, which loaders pass over: one that was cut short or damaged would end the whole
process when it is loaded, so it is made again. Libraries that nobody has used for a month are
removed when a new one is made; a process that has loaded one keeps it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

logger = logging.getLogger(__name__)

FLAGS = ("-O3", "-fopenmp", "-shared", "-fPIC", "-mavx512f", "-mavx512bw", "-mavx512vl")
BFLOAT16 = "-mavx512bf16"
FUNCTIONS = ("product", "attend", "weigh")
KEPT = 30 * 24 * 3600.0
"""Seconds that a library is kept after its last use: versions may take turns."""
_PATIENCE = 60.0


class NotBuilt(Exception):
    """Why there is no library, in half a sentence."""


def library() -> ctypes.CDLL:
    """The compiled kernels. Raises `NotBuilt`."""
    try:
        read = sorted(Path(__file__).parent.glob("*.[ch]"))
        made_of = b"\0".join([path.read_bytes() for path in read]) + repr(FLAGS).encode()
        sources = [path for path in read if path.suffix == ".c"]
        path = _cache() / f"kernels-{hashlib.sha256(made_of).hexdigest()[:24]}.so"
        if not _whole(path):
            _compile(sources, path)
            _remove_unused(path)
        _refuse_if_shared(path)
        _note_use(path)
        built = ctypes.CDLL(str(path))
    except OSError as error:
        raise NotBuilt(f"the library cannot be loaded ({error})") from error
    if not all(hasattr(built, name) for name in FUNCTIONS):
        raise NotBuilt(f"{path} lacks one of {', '.join(FUNCTIONS)}")
    return built


def _whole(path: Path) -> bool:
    """Whether the file is there and ends with the digest of the rest."""
    held = path.read_bytes() if path.exists() else b""
    size = hashlib.sha256().digest_size
    return len(held) > size and hashlib.sha256(held[:-size]).digest() == held[-size:]


def _cache() -> Path:
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "sllm"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise NotBuilt(f"there is no folder for it ({error})") from error
    _refuse_if_shared(folder)
    return folder


def _refuse_if_shared(path: Path) -> None:
    """What another user may write must not be loaded."""
    if sys.platform == "win32":
        return  # a user's folders are the user's there
    found = path.stat()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotBuilt(f"{path} may be written by others; expected it to be this user's alone")


def _note_use(path: Path) -> None:
    """The file's time is when it was last used; a folder that cannot be written is no hindrance."""
    with contextlib.suppress(OSError):
        os.utime(path)


def _remove_unused(new: Path) -> None:
    """Removes other libraries that were last used long ago. What is mapped stays until its
    process ends, and one that is removed while another process is about to load it is made again.
    """
    for old in new.parent.glob("kernels-*.so"):
        with contextlib.suppress(OSError):
            if old != new and time.time() - old.stat().st_mtime > KEPT:
                old.unlink()


def _compile(sources: list[Path], path: Path) -> None:
    """Writes the library, whole or not at all; two processes may do it at once."""
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None:
        raise NotBuilt("there is no C compiler")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            done = subprocess.run(
                [compiler, *FLAGS, BFLOAT16, "-o", made, *sources],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PATIENCE,
                check=False,
            )
            if done.returncode:
                said = done.stderr.strip().splitlines() or ["without a word"]
                raise NotBuilt(f"{compiler} failed: {said[0]}")
            made.write_bytes((code := made.read_bytes()) + hashlib.sha256(code).digest())
            made.chmod(0o700)
            made.replace(path)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotBuilt(f"{compiler} did not make it ({error})") from error
    logger.info("compiled the CPU kernels with %s into %s", compiler, path)
