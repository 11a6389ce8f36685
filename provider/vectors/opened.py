"""What both faces of the store share: the checks, the active space, following a switch."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from provider.errors import ConfigurationError
from provider.factory import PROVIDERS
from provider.overrides import Overrides
from provider.settings import Settings
from provider.vectors import embedding, operations, search
from provider.vectors.catalog import Catalog
from provider.vectors.database import Database
from provider.vectors.embedding import Embedder, MakeEmbedder, Stored
from provider.vectors.filters import Filter
from provider.vectors.flow import Flow
from provider.vectors.opening import check
from provider.vectors.search import Hit, Mode
from provider.vectors.spaces import Space

_log = logging.getLogger(__name__)
_TRY_AGAIN_SECONDS = 5.0


class Opened:
    """What both faces know once they are open. Nothing here talks to the database."""

    def __init__(self, settings: Settings | None, make: MakeEmbedder | None) -> None:
        self.settings = settings or Settings()
        self._make = make or embedding.from_settings(self.settings)
        self._database = Database(self.settings)
        self._embedders: dict[str, Embedder] = {}
        self._catalog: Catalog | None = None
        self._space: Space | None = None
        self._overrides = Overrides(self.settings.state_file, PROVIDERS)
        self._following = threading.Lock()
        self._try_again = 0.0

    @property
    def space(self) -> Space:
        """The space that this process reads and writes."""
        if self._space is None:
            raise RuntimeError("The store is not open: use it in a `with` block, or call open().")
        return self._space

    @property
    def catalog(self) -> Catalog:
        """What the database holds, read when the store was opened."""
        if self._catalog is None:
            raise RuntimeError("The store is not open: use it in a `with` block, or call open().")
        return self._catalog

    def embedder(self, space: Space) -> Embedder:
        """The embedder of a space's provider, made when it is first needed."""
        if space.provider not in self._embedders:
            self._embedders[space.provider] = self._make(space.provider)
        return self._embedders[space.provider]

    def wanted(self) -> str:
        """The provider that is active now: that of the settings, or what `sllm switch` says."""
        switched = self._overrides.state().of("embedding")
        return switched or self.settings.embedding_provider

    def check(self) -> None:
        """The checks of the start; see `provider.vectors.opening`."""
        wanted = self.wanted()
        self._catalog, self._space = check(self._database, self.settings, self.embedder, wanted)

    def behind(self) -> bool:
        """Whether somebody has switched and this store has not followed. Costs one `stat`."""
        return self.wanted() != self.space.provider and time.monotonic() >= self._try_again

    def follow(self) -> None:
        """Go to the space that is switched to, once it passes the checks of the start. Until then
        the store stays where it is and tries again every few seconds."""
        with self._following:
            if not self.behind():
                return
            try:
                self.check()
            except ConfigurationError as error:
                self._try_again = time.monotonic() + _TRY_AGAIN_SECONDS
                _log.error("the store stays in the space %s: %s", self.space.name, error)

    def written_spaces(self) -> list[Space]:
        """The spaces that a write embeds for at once: its own, and with `sync` all others."""
        if self.settings.embedding_dual_write != "sync":
            return [self.space]
        live = [space for space in self.catalog.spaces if space.state != "retired"]
        return [self.space, *(space for space in live if space.id != self.space.id)]

    def merged(self, current: Mapping[str, Any], values: Mapping[str, Any]) -> str:
        """The text of a row after a change."""
        return operations.text_of(self.catalog.source, {**current, **values})

    def touches_text(self, values: Mapping[str, Any]) -> bool:
        operations.check_columns(self.catalog.source, values)
        return any(name in values for name in self.catalog.source.text_columns)

    def search_flow(
        self, space: Space, vector: Stored, k: int, filter: Filter | None, mode: Mode
    ) -> Flow[list[Hit]]:
        """The space is an argument, because a switch may come between embedding and searching."""
        ef_search = self.settings.vector_ef_search
        return search.search(self.catalog, space, vector, k, filter or {}, mode, ef_search)


def log_queued(space: Space, error: Exception) -> None:
    _log.warning("the space %s gets this write through the queue: %s", space.name, error)
