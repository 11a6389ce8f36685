"""A backfill in a process of its own, to be killed: python -m tests.migrations.worker URL"""

from __future__ import annotations

import sys

from migrations.backfill import Job
from migrations.fill import fill
from provider.vectors import catalog
from provider.vectors.database import Database
from provider.vectors.flow import run
from tests.vectors.postgres import App


def main(url: str) -> None:
    app = App(url)
    settings = app.settings()
    database = Database(settings)
    with database.connect() as connection:
        found = run(connection, catalog.load(settings))
    job = Job(database, found.source, found.space("local"), app.make("local"), batch=50)
    print("started", flush=True)
    done = fill(job, found, app.target(), build_index=False)
    print(done.readiness.missing, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
