"""How far a way is, said once a minute: a run that is cut off still leaves figures."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

EVERY = 30.0
"""Seconds between two lines."""
_ASKED = r"""
select coalesce((select sum(n_live_tup) from pg_stat_user_tables where schemaname = 'sllm'
                 and relname like 'vectors\_%'), 0)::bigint,
       (select jsonb_build_object('phase', phase, 'tuples', tuples_done, 'of', tuples_total,
                                  'blocks', blocks_done, 'of blocks', blocks_total)
        from pg_stat_progress_create_index limit 1),
       pg_database_size(current_database()),
       (select count(*) from pg_stat_activity where wait_event_type = 'Lock')
"""


@contextmanager
def reporting(url: str, say: Callable[[str], None]) -> Iterator[None]:
    """Say the side table's rows, the index build's progress, and the size of the database."""
    over = threading.Event()
    started = time.time()

    def report() -> None:
        while not over.wait(EVERY):
            try:
                with psycopg.connect(url, autocommit=True) as connection:
                    row = connection.execute(_ASKED).fetchone()
            except psycopg.Error as error:
                say(f"{time.time() - started:7.1f} s    (not answered: {error})")
                continue
            if row is not None:
                built = "" if row[1] is None else json.dumps(row[1])
                size = f"{row[2] / 2**20:,.0f} MiB"
                say(f"{time.time() - started:7.1f} s    {row[0]:,} rows, {size}, {row[3]} {built}")

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
