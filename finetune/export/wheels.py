"""The wheels of a bundle: our own, built from the source tree, and what it needs, by pip."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from provider.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
EXTRAS = "local,server"
_SOURCES = ("provider", "server", "migrations", "finetune")
_FILES = ("pyproject.toml", "README.md", "LICENSE")
_STAMP = ".made-for"


def collect(folder: Path, platform: str | None = None, root: Path = ROOT) -> None:
    """Fills `folder` with every wheel of `sllm-provider[local,server]` at the pinned versions.

    Wheels that are there already are not fetched again. `platform` is pip's word for another
    machine's (`manylinux_2_28_x86_64`). `ConfigurationError` without a source tree or when pip
    fails; what it says stands above.
    """
    constraints = root / "constraints.txt"
    if not (root / "pyproject.toml").is_file() or not constraints.is_file():
        raise ConfigurationError(
            f"--wheels builds the package from its source tree, and {root} is none; expected a "
            "checkout with pyproject.toml and constraints.txt; run it from one."
        )
    stamp = hashlib.sha256(constraints.read_bytes() + f"{platform}".encode()).hexdigest()
    if not (folder / _STAMP).is_file() or (folder / _STAMP).read_text() != stamp:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / _STAMP).write_text(stamp)
    _build(folder, root)
    wanted = [f"sllm-provider[{EXTRAS}]", "--dest", str(folder), "--find-links", str(folder)]
    wanted += ["--constraint", str(constraints), "--only-binary", ":all:"]
    if platform:
        wanted += ["--platform", platform]
        wanted += ["--python-version", f"{sys.version_info.major}.{sys.version_info.minor}"]
    _pip(["download", *wanted])
    shutil.copy(constraints, folder / "constraints.txt")
    (folder / _STAMP).unlink()


def _build(folder: Path, root: Path) -> None:
    """In a copy, so that nothing left over from an earlier build gets in."""
    for old in folder.glob("sllm_provider-*.whl"):
        old.unlink()
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "source"
        copy.mkdir()
        for name in _SOURCES:
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(root / name, copy / name, ignore=ignored)
        for name in _FILES:
            shutil.copy(root / name, copy / name)
        _pip(["wheel", "--no-deps", "--wheel-dir", str(folder), str(copy)])


def _pip(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    code = subprocess.run([*command, "--quiet"]).returncode
    if code:
        raise ConfigurationError(
            f"`pip {arguments[0]}` for the bundle's wheels ended with {code}; expected a package "
            "index that can be reached (PIP_INDEX_URL); the same command goes on where it stopped."
        )
