"""Names to providers: builds and wraps what the settings ask for.

Adding a provider is a module with `build(settings) -> Provider` and one line in `PROVIDERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, cast

from provider.errors import ConfigurationError

if TYPE_CHECKING:
    from provider.base import Provider
    from provider.settings import Settings

PROVIDERS: dict[str, str] = {
    "openai": "provider.openai:build",
    "local": "provider.local:build",
}

_EXTRAS = {"local": "local", "litellm": "litellm"}


def build(settings: Settings) -> Provider:
    """The provider that answers every path: the LLM's and the embeddings', each by its own side.

    Raises `ConfigurationError` for a provider whose extra is not installed.
    """
    from provider.routes import Routes

    if settings.llm_provider == settings.embedding_provider:
        return make(settings.llm_provider, settings)
    return Routes(
        llm=make(settings.llm_provider, settings),
        embedding=make(settings.embedding_provider, settings),
    )


def make(name: str, settings: Settings) -> Provider:
    """One provider by its name.

    Raises `ConfigurationError` for an unknown name (the known ones are listed) and for an extra
    that is not installed.
    """
    if name not in PROVIDERS:
        raise ConfigurationError(
            f"There is no provider {name!r}; the known ones are {', '.join(sorted(PROVIDERS))}."
        )
    module, attribute = PROVIDERS[name].split(":")
    try:
        builder = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] == "provider":
            raise
        extra = _EXTRAS.get(name, name)
        raise ConfigurationError(
            f"The provider {name!r} needs the package {error.name!r}, which is not installed: "
            f"pip install 'sllm-provider[{extra}]'."
        ) from error
    return cast("Callable[[Settings], Provider]", builder)(settings)
