"""What happens to a request that could not be rolled back: PORTABILITY=warn, enforce or off."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Literal

from provider.protocol import portability
from provider.protocol.chat import ChatRequest
from provider.protocol.portability import Finding

log = logging.getLogger(__name__)

_REMEMBERED = 1000
HEADER = "x-portability"


class Portability:
    """One per provider: an app that sends the same request a thousand times is told once in the
    log, and in every response's header."""

    def __init__(self, mode: Literal["warn", "enforce", "off"]) -> None:
        self._mode = mode
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def headers(
        self, request: ChatRequest, *, foreign: bool, further: Iterable[Finding] = ()
    ) -> dict[str, str]:
        """The response header, empty where there is nothing to report; `foreign` says that the
        model asked for exists only here, `further` are findings about more than the request.

        Raises `InvalidRequest` under `enforce`.
        """
        if self._mode == "off":
            return {}
        found = (*further, *portability.findings(request))
        if foreign:
            found = (portability.foreign_model(request.model), *found)
        if not found:
            return {}
        if self._mode == "enforce":
            portability.enforce(found)
        text = portability.header(found)
        if self._is_new(text):
            log.warning("a rollback to OpenAI would break this request: %s", text)
        return {HEADER: text}

    def _is_new(self, text: str) -> bool:
        with self._lock:
            new = text not in self._told and len(self._told) < _REMEMBERED
            if new:
                self._told.add(text)
            return new
