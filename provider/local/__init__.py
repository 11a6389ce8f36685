"""The provider that answers in this process: chat completions, embeddings, models, adapters."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from provider.errors import ConfigurationError
from provider.local.provider import LocalProvider

if TYPE_CHECKING:
    from provider.settings import Settings

_NEEDED = ("torch", "transformers", "llguidance", "outlines")

__all__ = ["LocalProvider", "build"]


def build(settings: Settings) -> LocalProvider:
    """The local provider of these settings; models are shared by the process and load lazily.

    Raises `ConfigurationError` where what local models need is not installed.
    """
    for package in _NEEDED:
        if find_spec(package) is None:
            raise ConfigurationError(
                f"The provider 'local' needs the package {package!r}, which is not installed: "
                "pip install 'sllm-provider[local]'."
            )
    return LocalProvider(settings)
