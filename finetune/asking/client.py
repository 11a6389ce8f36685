"""The client that asks: the official SDK's, over this layer's providers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from provider.errors import ConfigurationError

if TYPE_CHECKING:
    import openai

    from provider.settings import Settings


def client(settings: Settings) -> openai.AsyncOpenAI:
    """An asynchronous client over the provider that the settings name; it tries nothing twice.

    Raises `ConfigurationError` where there is no key for it.
    """
    from provider.client import AsyncOpenAI

    if settings.llm_provider == "openai" and settings.openai_api_key is None:
        raise ConfigurationError(
            "OPENAI_API_KEY is not set; set it, or LLM_PROVIDER to another provider."
        )
    return AsyncOpenAI(settings=settings, max_retries=0)


def alone(settings: Settings, aside: Path, provider: str | None = None) -> Settings:
    """The settings of a provider that answers by itself: no fallback, shadow or recording, and no
    run-time switch, whose file would be `aside`. Its own model is called `default` where it is
    the local one."""
    return settings.model_copy(
        update={
            "llm_provider": provider or settings.llm_provider,
            "llm_fallback": "none",
            "llm_shadow": "none",
            "llm_record": None,
            "sllm_state_file": aside,
            "model_aliases": {**settings.model_aliases, "default": "default"},
        }
    )


def model_of(settings: Settings) -> str:
    """The model that the settings' provider answers with."""
    if settings.llm_provider == "litellm":
        return settings.llm_model or settings.openai_model
    return "default" if settings.llm_provider == "local" else settings.openai_model
