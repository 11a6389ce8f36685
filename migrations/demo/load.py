"""An app under constant load, in a process of its own, so that measuring does not disturb it.

python -m migrations.demo.load CONFIG.json; modes come line by line on standard input.

Open loop: each request has a time at which it is due, and its latency counts from then, so a stall
shows in full in everything that waited behind it. A mode says how the app talks to the database:

    {"sql": "embedding", "provider": "openai"}     its own SQL, that vector column
    {"store": "local"}                             VectorStore with EMBEDDING_PROVIDER=local
"""

from __future__ import annotations

import importlib
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psycopg
from pydantic import SecretStr

from provider.settings import Settings
from provider.vectors import VectorStore
from provider.vectors.embedding import Embedder

Kind = Literal["search", "read", "write"]
RATES: dict[Kind, float] = {"search": 20.0, "read": 40.0, "write": 20.0}
"""Requests a second."""
ACTIONS = (["meta", "update", "insert", "delete"], [40, 25, 25, 10])
WORDS = """
방 거실 주방 욕실 현관 발코니 다용도실 침실 서재 창문 남향 북향 복도 계단 수납
room kitchen window door wall stair balcony garden light floor ceiling bath hall garage
""".split()  # noqa: SIM905 - a list of words reads as words


@dataclass(frozen=True)
class Config:
    """What the load runs against. `make` is `module:function`, provider name to embedder."""

    url: str
    make: str
    rows: int
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    out: str = ""


@dataclass(frozen=True)
class Sample:
    """One request: when it was due, how long it took from then, what went wrong."""

    kind: Kind
    due: float
    seconds: float
    mode: str
    error: str | None = None
    action: str = ""
    """Of a write: meta (no text), update, insert or delete."""


def text_of(number: int) -> str:
    """The text of a document: about 20 words, its own for every number."""
    choose = random.Random(number)
    return f"도면 {number}: " + " ".join(choose.choices(WORDS, k=20))


class App:
    """The app: searches, reads by key, writes. One instance per thread; the store is shared."""

    def __init__(
        self, config: Config, make: Callable[[str], Embedder], stores: dict[str, VectorStore]
    ) -> None:
        self.config = config
        self.make = make
        self.stores = stores
        self.random = random.Random()
        self.connection: psycopg.Connection[Any] | None = None
        self.embedders: dict[str, Embedder] = {}

    def perform(self, kind: Kind, mode: dict[str, str], action: str) -> None:
        if kind == "read":
            self._sql("select id, content from documents where id = %s", [self._row()])
        elif kind == "search":
            self._search(mode)
        else:
            self._write(mode, action)

    def _search(self, mode: dict[str, str]) -> None:
        text = text_of(self._row())
        if "store" in mode:
            self.stores[mode["store"]].search(text, k=10)
            return
        vector = self._vector(mode["provider"], text)
        statement = f'select id from documents order by "{mode["sql"]}" <=> %s::vector limit 10'
        self._sql(statement, [vector])

    def _write(self, mode: dict[str, str], action: str) -> None:
        row, text = self._row(), text_of(self.random.randrange(10**9))
        if action == "meta":
            self._sql("update documents set metadata = '{\"seen\": true}' where id = %s", [row])
        elif action == "delete":
            self._sql("delete from documents where id = %s", [row])
        else:
            self._write_text(mode, row if action == "update" else None, text)

    def _write_text(self, mode: dict[str, str], row: int | None, text: str) -> None:
        if "store" in mode:
            store = self.stores[mode["store"]]
            if row is None:
                store.add([text])
            else:
                store.update(row, {"content": text})
            return
        column, vector = mode["sql"], self._vector(mode["provider"], text)
        if row is None:
            statement = f'insert into documents (content, "{column}") values (%s, %s::vector)'
            self._sql(statement, [text, vector])
        else:
            change = f'update documents set content = %s, "{column}" = %s::vector where id = %s'
            self._sql(change, [text, vector, row])

    def _vector(self, provider: str, text: str) -> str:
        if provider not in self.embedders:
            self.embedders[provider] = self.make(provider)
        return str(list(self.embedders[provider].embed_texts([text])[0]))

    def _sql(self, statement: str, parameters: Sequence[Any]) -> None:
        if self.connection is None or self.connection.broken:
            self.connection = psycopg.connect(self.config.url, autocommit=True)
        self.connection.execute(statement.encode(), parameters)

    def _row(self) -> int:
        return self.random.randint(1, self.config.rows)


class Load:
    """Threads that keep the rates, whatever the database does."""

    threads: dict[Kind, int] = {"search": 2, "read": 2, "write": 2}  # noqa: RUF012

    def __init__(self, config: Config, make: Callable[[str], Embedder]) -> None:
        self.config = config
        self.make = make
        self.mode: dict[str, str] = {"sql": "embedding", "provider": "openai"}
        self.samples: list[Sample] = []
        self.over = threading.Event()
        self.stores: dict[str, VectorStore] = {}

    def switch(self, mode: dict[str, str]) -> None:
        """Talk to the database like this from now on; a store is opened first, as a replica that
        is rolled out takes no requests before it is ready."""
        provider = mode.get("store")
        if provider is not None and provider not in self.stores:
            values = {**self.config.settings, "embedding_provider": provider}
            settings = Settings(**values, database_url=SecretStr(self.config.url))
            self.stores[provider] = VectorStore(settings, make=self.make, pool_size=6).open()
        self.mode = mode

    def start(self) -> list[threading.Thread]:
        running = [
            threading.Thread(target=self._keep, args=(kind, number), daemon=True)
            for kind, count in self.threads.items()
            for number in range(count)
        ]
        for thread in running:
            thread.start()
        return running

    def _keep(self, kind: Kind, number: int) -> None:
        app = App(self.config, self.make, self.stores)
        interval = self.threads[kind] / RATES[kind]
        due = time.time() + interval * number / self.threads[kind]
        while not self.over.wait(max(0.0, due - time.time())):
            mode, error = self.mode, None
            action = app.random.choices(*ACTIONS)[0] if kind == "write" else ""
            try:
                app.perform(kind, mode, action)
            except Exception as failed:  # noqa: BLE001 - every error an app would see is counted
                error = f"{type(failed).__name__}: {failed}"[:200]
            said = json.dumps(mode, sort_keys=True)
            self.samples.append(Sample(kind, due, time.time() - due, said, error, action))
            due += interval


def main(path: str) -> None:
    config = Config(**json.loads(Path(path).read_text(encoding="utf-8")))
    module, name = config.make.split(":")
    load = Load(config, getattr(importlib.import_module(module), name))
    threads = load.start()
    for line in sys.stdin:
        load.switch(json.loads(line))
        print("ok", flush=True)
    load.over.set()
    for thread in threads:
        thread.join(timeout=150)
    lines = (json.dumps(asdict(sample)) for sample in list(load.samples))
    Path(config.out).write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
