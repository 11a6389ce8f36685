"""The client that asks: the official SDK's, over this layer's providers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from provider.errors import ConfigurationError

if TYPE_CHECKING:
    import openai

    from provider.settings import Settings


def client(settings: Settings) -> openai.AsyncOpenAI:
    """An asynchronous client over the provider that the settings name; it tries nothing twice.

    Raises `ConfigurationError` where there is no key for it.
    """
    from openai import OpenAIError

    from provider.client import AsyncOpenAI

    try:
        return AsyncOpenAI(settings=settings, max_retries=0)
    except OpenAIError as error:
        raise ConfigurationError(
            f"OPENAI_API_KEY is not set ({error}); set it, or LLM_PROVIDER to another provider."
        ) from error


def model_of(settings: Settings) -> str:
    """The model that the settings' provider answers with."""
    if settings.llm_provider == "litellm":
        return settings.llm_model or settings.openai_model
    return "default" if settings.llm_provider == "local" else settings.openai_model
