"""A model by hub id or folder, as a folder on this machine.

Everything that can go wrong on the way becomes one sentence that names the setting, its value, what
was expected and the way out.
"""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from provider.errors import ConfigurationError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "README.md", "LICENSE*"]


def resolve(
    path_or_id: str | Path,
    revision: str | None = None,
    *,
    setting: str = "LOCAL_LLM_MODEL_PATH",
    further_files: tuple[str, ...] = (),
) -> Path:
    """The folder of a model; a hub id is downloaded once and cached.

    `further_files` are patterns beside the usual ones (safetensors, JSON, templates, licence).
    """
    text = str(path_or_id)
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise ConfigurationError(
            f"{setting}={text!r} is a file; expected a folder with config.json and safetensors, or "
            f"a hub id; name the folder that holds the file."
        )
    if isinstance(path_or_id, Path) or not _is_hub_id(text):
        raise ConfigurationError(
            f"{setting}={text!r} does not exist; expected a folder or a hub id such as "
            "LGAI-EXAONE/EXAONE-3.5-2.4B-Instruct; check the path."
        )
    return _download(text, revision, setting, [*_FILES, *further_files])


def _is_hub_id(text: str) -> bool:
    return bool(_HUB_ID.fullmatch(text)) and not text.startswith((".", "/", "~"))


def _download(repository: str, revision: str | None, setting: str, patterns: list[str]) -> Path:
    try:
        found = snapshot_download(repository, revision=revision, allow_patterns=patterns)
    except GatedRepoError as error:
        reason = (
            "is gated; expected a token with access; accept its terms on the hub and set HF_TOKEN."
        )
        raise _unusable(setting, repository, reason) from error
    except RevisionNotFoundError as error:
        reason = (
            f"has no revision {revision!r}; expected a branch, tag or commit of that repository; "
            f"correct {setting.rsplit('_MODEL', 1)[0]}_REVISION or unset it."
        )
        raise _unusable(setting, repository, reason) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        reason = (
            "is neither a folder here nor a repository on the hub that this token may see; "
            "expected either; check the spelling, or set HF_TOKEN for a private one."
        )
        raise _unusable(setting, repository, reason) from error
    except (LocalEntryNotFoundError, OSError, HfHubHTTPError) as error:
        reason = (
            "is not in the local cache and the hub cannot be reached; expected a network, a cached "
            "copy or a folder; download it elsewhere and give the folder's path."
        )
        raise _unusable(setting, repository, reason) from error
    return Path(str(found))


def _unusable(setting: str, value: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"{setting}={value!r} {reason}")
