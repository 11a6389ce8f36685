"""Leave a hosted OpenAI model without rewriting your app, and come back in one variable.

    from provider import OpenAI      # was: from openai import OpenAI

Importing this package loads nothing: each public name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from provider.apps import LLM, Embedder, get_embedder, get_llm
    from provider.base import ApiRequest, ApiResponse, ByteStream, Provider
    from provider.client import AsyncOpenAI, OpenAI
    from provider.errors import ApiError, ConfigurationError
    from provider.factory import build
    from provider.settings import Settings
    from provider.vectors.async_store import AsyncVectorStore
    from provider.vectors.store import VectorStore

_HOMES = {
    "ApiError": "provider.errors",
    "ApiRequest": "provider.base",
    "ApiResponse": "provider.base",
    "AsyncOpenAI": "provider.client",
    "AsyncVectorStore": "provider.vectors.async_store",
    "ByteStream": "provider.base",
    "ConfigurationError": "provider.errors",
    "Embedder": "provider.apps",
    "LLM": "provider.apps",
    "OpenAI": "provider.client",
    "Provider": "provider.base",
    "Settings": "provider.settings",
    "VectorStore": "provider.vectors.store",
    "build": "provider.factory",
    "get_embedder": "provider.apps",
    "get_llm": "provider.apps",
}

_EXTRAS = {"VectorStore": "vectors", "AsyncVectorStore": "vectors"}

__all__ = [
    "LLM",
    "ApiError",
    "ApiRequest",
    "ApiResponse",
    "AsyncOpenAI",
    "AsyncVectorStore",
    "ByteStream",
    "ConfigurationError",
    "Embedder",
    "OpenAI",
    "Provider",
    "Settings",
    "VectorStore",
    "build",
    "get_embedder",
    "get_llm",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "provider" or name not in _EXTRAS:
            raise
        raise ImportError(
            f"{name} needs the package {error.name!r}, which is not installed: "
            f"pip install 'sllm-provider[{_EXTRAS[name]}]'."
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
