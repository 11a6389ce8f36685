"""The revisions on a real PostgreSQL: up, down, up again, on tables of all kinds."""

from __future__ import annotations

from migrations import runner
from tests.vectors.postgres import App


def test_up_and_down_and_up_again(app: App) -> None:
    app.upgrade(runner.INDEXED)
    assert app.value("select version_num from sllm.alembic_version") == "0003"
    spaces = app.rows("select name, storage, dimensions, state from sllm.embedding_spaces")
    assert spaces == [
        ("openai_text_embedding_3_small_512", "app_column", 512, "ready"),
        ("local_kosimcse_roberta_768", "side_table", 768, "filling"),
    ]
    runner.downgrade(app.target(), "base")
    assert app.value("select to_regclass('documents')") is None
    ours = app.rows(
        "select relname from pg_class where relnamespace = 'sllm'::regnamespace and relkind = 'r'"
    )
    assert ours == [("alembic_version",)]
    app.upgrade(runner.INDEXED)
