"""Everything that an air-gapped machine needs, in one folder: weights, adapters, settings, wheels,
licences, checksums and the scripts that check, install and serve it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

from finetune.durable import sha256, sync_file
from finetune.export.base import read_base
from finetune.export.scripts import INSTALL, README, SERVE, VERIFY
from finetune.export.wheels import collect
from finetune.export.whole import written_whole
from provider.engine.lora import MANIFEST as ADAPTER_MANIFEST
from provider.engine.lora import read_adapter_for
from provider.engine.model_card import licence, read_json
from provider.engine.repository import resolve
from provider.engine.weights import read_headers
from provider.errors import ConfigurationError

ADAPTER_CONFIG = "adapter_config.json"
SUMS, PARTS = "SHA256SUMS", "bundle.json"
_LEFT = {".bin", ".pt", ".pth", ".gguf", ".msgpack", ".h5", ".py", ".onnx"}
_PLAIN = re.compile(r"\w[\w.-]*")
_SCRIPTS = {"verify.sh": VERIFY, "install.sh": INSTALL, "serve.sh": SERVE}


@dataclass(frozen=True)
class Part:
    """One folder of the bundle: where it comes from, where it goes, and under which licence."""

    source: Path
    place: str
    licence: str

    def files(self) -> dict[str, Path]:
        """Path in the bundle to file; pickled weights and code stay behind."""
        return {
            f"{self.place}/{path.relative_to(self.source).as_posix()}": path
            for path in sorted(self.source.rglob("*"))
            if path.is_file()
            and path.suffix not in _LEFT
            and not any(part.startswith(".") for part in path.relative_to(self.source).parts)
        }


def bundle(
    destination: Path,
    model: str | Path,
    adapters: Sequence[Path] = (),
    *,
    embedding: str | Path | None = None,
    wheels: bool = False,
    platform: str | None = None,
    progress: bool = True,
) -> list[Part]:
    """Write the bundle to `destination`, which must not exist and appears when it is complete.

    A run that was stopped goes on where it was: files that are there whole are not copied again.
    `ConfigurationError` for a damaged model, an adapter that it would refuse (every reason is
    listed), two adapters of one name, a full disk, and wheels that cannot be had.
    """
    parts = plan_bundle(model, _each(adapters), embedding)
    files = {name: path for part in parts for name, path in part.files().items()}
    size = sum(path.stat().st_size for path in files.values())
    there = destination.parent / f".{destination.name}.partial"
    with written_whole(destination, needed=size - _stored(there, files), keep=True) as partial:
        _remove_others(partial, files)
        _copy(partial, files, size, progress)
        if wheels:
            collect(partial / "wheels", platform)
        _write_texts(partial, parts, wheels)
        _write_sums(partial)
    return parts


def plan_bundle(
    model: str | Path, adapters: Sequence[Path], embedding: str | Path | None = None
) -> list[Part]:
    """The parts, each checked as the server will check it."""
    folder = resolve(model, setting="--model")
    parts = [Part(folder, f"models/{_name(model)}", licence(folder))]
    read_headers(folder)
    if embedding is not None:
        encoder = resolve(embedding, setting="--embedding")
        parts.append(Part(encoder, f"models/{_name(embedding)}", licence(encoder)))
    if adapters and not read_json(folder / "config.json").get("quantization_config"):
        base = read_base(model)
        for adapter in adapters:
            read_adapter_for(adapter, base.card, base.linears)
    parts += [_adapter_part(adapter) for adapter in adapters]
    places = [part.place for part in parts]
    twice = sorted({place for place in places if places.count(place) > 1})
    if twice:
        raise ConfigurationError(
            f"Two folders would become {', '.join(twice)}; expected different names, by which they "
            "are asked for; rename one."
        )
    return parts


def _each(adapters: Sequence[Path]) -> list[Path]:
    """A folder that holds adapters, as LOCAL_LLM_ADAPTERS names one, stands for all in it."""
    found: list[Path] = []
    for folder in adapters:
        inside = sorted(path.parent for path in folder.glob(f"*/{ADAPTER_CONFIG}"))
        alone = (folder / ADAPTER_CONFIG).is_file() or not inside
        found += [folder] if alone else inside
    return found


def _adapter_part(adapter: Path) -> Part:
    """Under the name that its manifest gives it, since training calls every folder `adapter`."""
    path = adapter / ADAPTER_MANIFEST
    manifest = read_json(path) if path.is_file() else {}
    stated = str(manifest.get("name", ""))
    name = stated if _PLAIN.fullmatch(stated) else adapter.resolve().name
    return Part(adapter, f"adapters/{name}", str(manifest.get("licence") or licence(adapter)))


def _name(path_or_id: str | Path) -> str:
    folder = Path(path_or_id).expanduser()
    return folder.resolve().name if folder.is_dir() else str(path_or_id).rsplit("/", 1)[-1]


def _is_copied(source: Path, copy: Path) -> bool:
    """`copy2` keeps the time of change, and a copy is renamed only when it is whole."""
    if not copy.is_file():
        return False
    one, two = source.stat(), copy.stat()
    return (one.st_size, one.st_mtime_ns) == (two.st_size, two.st_mtime_ns)


def _stored(partial: Path, files: Mapping[str, Path]) -> int:
    there = [path for name, path in files.items() if _is_copied(path, partial / name)]
    return sum(path.stat().st_size for path in there)


def _remove_others(partial: Path, files: Mapping[str, Path]) -> None:
    """What an earlier run with other arguments left behind."""
    for path in sorted(partial.rglob("*")):
        name = path.relative_to(partial).as_posix()
        if path.is_file() and name not in files and not name.startswith("wheels/"):
            path.unlink()


def _copy(partial: Path, files: Mapping[str, Path], size: int, progress: bool) -> None:
    with tqdm(total=size, unit="B", unit_scale=True, desc="Copying", disable=not progress) as bar:
        for name, path in files.items():
            target = partial / name
            if not _is_copied(path, target):
                target.parent.mkdir(parents=True, exist_ok=True)
                unfinished = target.with_name(f"{target.name}.unfinished")
                shutil.copyfile(path, unfinished)
                sync_file(unfinished)
                shutil.copystat(path, unfinished)
                unfinished.chmod(0o644)
                unfinished.rename(target)
            bar.update(path.stat().st_size)


def _write_texts(partial: Path, parts: Sequence[Part], wheels: bool) -> None:
    for name, text in _SCRIPTS.items():
        (partial / name).write_text(text, encoding="utf-8")
        (partial / name).chmod(0o755)
    (partial / ".env").write_text(_settings(parts), encoding="utf-8")
    listed = "\n".join(f"{part.place}: {part.licence}" for part in parts)
    (partial / "LICENCES").write_text(listed + "\n", encoding="utf-8")
    (partial / "README").write_text(README, encoding="utf-8")
    told: dict[str, Any] = {
        "parts": [{"place": part.place, "licence": part.licence} for part in parts],
        "wheels": wheels,
    }
    (partial / PARTS).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _settings(parts: Sequence[Part]) -> str:
    models = [part.place for part in parts if part.place.startswith("models/")]
    lines = [
        "# Read from the folder that serve.sh is in. `sllm serve --help` names what may be added.",
        "LLM_PROVIDER=local",
        "PORTABILITY=off",
        f"LOCAL_LLM_MODEL_PATH={models[0]}",
    ]
    if any(part.place.startswith("adapters/") for part in parts):
        lines.append("LOCAL_LLM_ADAPTERS=adapters")
    if len(models) > 1:
        lines += ["EMBEDDING_PROVIDER=local", f"LOCAL_EMBEDDING_MODEL={models[1]}"]
    else:
        lines += [
            "# No embedding model was bundled (--embedding). For /v1/embeddings, and for the list",
            "# of all models, name a server that can be reached from here:",
            "# OPENAI_BASE_URL=http://embeddings.example/v1",
        ]
    return "\n".join(lines) + "\n"


def _write_sums(partial: Path) -> None:
    lines = []
    for path in sorted(partial.rglob("*")):
        if path.is_file() and path.name != SUMS:
            lines.append(f"{sha256(path)}  ./{path.relative_to(partial).as_posix()}")
    (partial / SUMS).write_text("\n".join(lines) + "\n", encoding="utf-8")
