"""Where the shipped demo models stand, and the manifest that says what they are."""

import json
from pathlib import Path
from typing import Any

ARTIFACTS = Path(__file__).parent / "artifacts"
EXAONE_DEMO = ARTIFACTS / "exaone-demo"
EMBEDDER_DEMO = ARTIFACTS / "embedder-demo"
MANIFEST = "sllm.json"
NOTICE = "demo checkpoint, not EXAONE's own weights"
EMBEDDER_NOTICE = "demo embedder, not KoSimCSE's own weights"


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write `sllm.json`, which every reader of the folder finds beside the weights."""
    text = json.dumps(manifest, ensure_ascii=False, indent=2)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Raises FileNotFoundError where there is none."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return manifest
