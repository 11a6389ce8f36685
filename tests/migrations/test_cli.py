"""`sllm db` from the first look to the contract, as an operator types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.vectors.postgres import App


def test_from_the_first_look_to_the_contract(app: App, sllm: Any, tmp_path: Path) -> None:
    app.rows(
        "create table documents (id bigint primary key generated always as identity, "
        "content text, metadata jsonb, embedding vector(512))"
    )
    app.fill(120)
    assert "VECTOR_EMBEDDING_COLUMN=embedding" in sllm("adopt").output
    assert "revision none -> 0003" in sllm("plan").output

    assert "next: sllm db backfill" in sllm("upgrade").output
    assert "120 to embed" in sllm("plan").output
    before = app.embedders["local"].embedded
    dry = sllm("backfill", "--dry-run").output
    assert "120 to embed" in dry
    assert "minutes" in dry
    assert app.embedders["local"].embedded - before < 120
    assert "lacks 120 rows" not in sllm("status").output
    assert not json.loads(sllm("verify", "--json", code=1).output)["safe"]

    assert "120 rows read, 120 embedded" in sllm("backfill", "--workers", "2").output
    found = json.loads(sllm("status", "--json").output)
    assert found["revision"] == "0003"
    local = next(space for space in found["spaces"] if space["provider"] == "local")
    assert (local["missing"], local["indexed"], local["backfill_done"]) == (0, True, 1.0)

    app.rows("update documents set content = 'changed' where id = 3")
    assert "local_kosimcse_roberta_768: 1 entries, 1 embedded" in sllm("sync").output
    page = tmp_path / "report.html"
    shown = sllm("verify", "--queries", "5", "--again", "3", "--html", str(page)).output
    assert shown.rstrip().endswith("SAFE TO SWITCH to local_kosimcse_roberta_768")
    assert "SAFE TO SWITCH" in page.read_text(encoding="utf-8")
    assert sllm("upgrade").output == "up to date\n"

    assert "Repeat with --yes" in sllm("contract", code=2).output
    archive = tmp_path / "old.bin"
    gone = sllm("contract", "--yes", "--archive", str(archive)).output
    assert "openai_text_embedding_3_small_512 is gone" in gone
    assert archive.stat().st_size > 120 * 512 * 4
    assert len(json.loads(sllm("status", "--json").output)["spaces"]) == 1


def test_down_again(app: App, sllm: Any) -> None:
    sllm("upgrade")
    assert "at 0001" in sllm("downgrade", "0001").output
    sllm("downgrade", "base")
    assert app.value("select to_regclass('documents')") is None


def test_lost_triggers_are_repaired(app: App, sllm: Any) -> None:
    sllm("upgrade")
    app.rows("alter table documents disable trigger zz_sllm_insert")
    app.rows("drop trigger zz_sllm_update on documents")
    app.rows("insert into documents (content) values ('unseen')")
    output = sllm("upgrade").output
    assert "zz_sllm_insert" in output
    assert "zz_sllm_update" in output
    app.rows("update documents set content = 'seen' where id = 1")
    assert app.value("select count(*) from sllm.queue") == 2
    assert sllm("upgrade").output == "up to date\n"


def test_the_sql_is_printed_and_nothing_is_done(app: App, sllm: Any) -> None:
    output = sllm("upgrade", "--sql").output
    assert "CREATE INDEX CONCURRENTLY" in output
    assert app.value("select to_regclass('documents')") is None


def test_what_cannot_work_is_one_sentence(sllm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "sllm db upgrade" in sllm("status", code=2).output
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert "cannot be reached" in sllm("status", code=2).output
    monkeypatch.setenv("DATABASE_URL", "mysql://localhost/none")
    assert "scheme 'mysql'" in sllm("status", code=2).output


def test_a_space_that_is_not_there_is_named(sllm: Any) -> None:
    sllm("upgrade")
    assert "'locale' is not there; did you mean" in sllm("backfill", "-s", "locale", code=2).output
