"""Every test here has a real PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner, Result

from migrations.cli import db
from provider.vectors import embedding, mirror
from tests.vectors.postgres import App, app, dsn, make_app, server

__all__ = ["app", "dsn", "make_app", "server", "sllm"]


@pytest.fixture
def sllm(app: App, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command; the embedders are small, everything else is what an operator gets."""
    monkeypatch.setenv("DATABASE_URL", app.dsn)
    for module in (embedding, mirror):
        monkeypatch.setattr(module, "from_settings", lambda settings: app.make)

    def call(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(db, list(arguments), catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return call
