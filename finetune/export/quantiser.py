"""Finds a llama.cpp on this machine and has it quantise: its own code, in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from provider.errors import ConfigurationError

WORKER = Path(__file__).with_name("llama_worker.py")
_TOOL = "llama-quantize"


def quantise(source: Path, destination: Path, kind: str, python: Path | None = None) -> None:
    """`source` (f16, bf16 or f32) as `destination` in a type of llama.cpp's (`q4_k_m`).

    Runs llama-cpp-python, in this environment or in that of the interpreter `python`, or else the
    program llama-quantize. `ConfigurationError` when none of them is there or it fails.
    """
    command = _command(kind, python)
    if command[0] == _TOOL:
        command += [str(source), str(destination), kind.upper()]
    else:
        command += ["quantise", str(source), str(destination), kind]
    ran = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if ran.returncode or not destination.is_file():
        last = " ".join((ran.stdout + ran.stderr).split())[-300:]
        raise ConfigurationError(
            f"llama.cpp did not quantise to {kind} (exit {ran.returncode}: {last}); expected a "
            "build that knows the type; see --llama-python, or take --type q8_0."
        )


def _command(kind: str, python: Path | None) -> list[str]:
    if python is not None:
        if shutil.which(python) is None:
            raise ConfigurationError(
                f"--llama-python {str(python)!r} is no program; expected the interpreter of an "
                "environment with llama-cpp-python."
            )
        return [str(python), str(WORKER)]
    if find_spec("llama_cpp"):
        return [sys.executable, str(WORKER)]
    if shutil.which(_TOOL):
        return [_TOOL]
    raise ConfigurationError(
        f"--type {kind} is made by llama.cpp's own quantiser, and there is none here: "
        "`pip install llama-cpp-python` (in an environment of its own if you like, named by "
        "--llama-python), or put llama-quantize on the PATH."
    )
