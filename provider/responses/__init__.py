"""OpenAI's Responses API over a provider that answers chat requests."""

from provider.responses.provider import Responses
from provider.responses.store import Store

__all__ = ["Responses", "Store"]
