"""The HTTP library of the installed OpenAI SDK: httpx2 for openai 3.x, httpx for 2.x.

Both may be installed (LiteLLM brings httpx), so the SDK decides, not what can be imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from openai import DefaultHttpxClient

if TYPE_CHECKING:
    import httpx2 as httpx
else:
    httpx = import_module(DefaultHttpxClient.__mro__[1].__module__.split(".")[0])

__all__ = ["httpx"]
