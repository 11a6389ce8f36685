"""The provider that answers in this process: chat completions, embeddings, models, adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from provider.local.provider import LocalProvider

if TYPE_CHECKING:
    from provider.settings import Settings

__all__ = ["LocalProvider", "build"]


def build(settings: Settings) -> LocalProvider:
    """The local provider of these settings; models are shared by the process and load lazily.

    Raises `ConfigurationError` where what local models need is not installed.
    """
    return LocalProvider(settings)
