"""Every test here has a real PostgreSQL."""

from tests.vectors.postgres import app, dsn, make_app, server

__all__ = ["app", "dsn", "make_app", "server"]
