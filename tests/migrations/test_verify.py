"""The verification finds what was planted, and says that nothing is wrong when nothing is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from migrations import runner
from migrations.verify import ranking, report
from migrations.verify.ranking import Labelled
from migrations.verify.report import Report
from migrations.verify.run import Options, verify
from provider.errors import ConfigurationError
from tests.migrations.test_backfill import backfill, prepared
from tests.vectors.embedders import BagOfWords
from tests.vectors.postgres import App, text_of

SIDE = "sllm.vectors_local_kosimcse_roberta_768"


def checked(app: App, **options: object) -> Report:
    given = Options(queries=8, again=5, **options)  # type: ignore[arg-type]
    return verify(app.settings(), "local", given, make=app.make)


def migrated(app: App, rows: int = 300) -> App:
    prepared(app, rows)
    backfill(app, index=True)
    return app


def test_a_complete_space_is_safe(app: App) -> None:
    migrated(app)
    found = checked(app)
    assert found.reasons == []
    assert found.safe
    assert app.value("select state from sllm.embedding_spaces where provider='local'") == "ready"
    assert sum(found.overlap) / len(found.overlap) > 0.5
    assert "SAFE TO SWITCH" in report.terminal(found)
    assert json.loads(report.as_json(found))["safe"] is True
    page = report.as_html(found)
    assert page.count("<svg") == 2
    assert "SAFE TO SWITCH" in page


def delete_a_vector(app: App) -> None:
    app.rows(f"delete from {SIDE} where row_id = 7")


def change_a_text_behind_the_triggers(app: App) -> None:
    app.rows(
        "set session_replication_role = replica; "
        "update documents set content = 'another text' where id = 8"
    )


def zero_a_vector(app: App) -> None:
    app.rows(f"update {SIDE} set embedding = array_fill(0, array[768])::vector where row_id = 9")


def leave_an_orphan(app: App) -> None:
    app.rows("set session_replication_role = replica; delete from documents where id = 10")


def store_another_models_vectors(app: App) -> None:
    other = BagOfWords(768, seed=77)
    with app.connect() as connection:
        for number in range(300):
            vector = str(other.vector(text_of(number)).tolist())
            connection.execute(
                f"update {SIDE} set embedding = %s::vector where row_id = %s", [vector, number + 1]
            )


def disable_a_trigger(app: App) -> None:
    app.rows("alter table documents disable trigger zz_sllm_update")


def drop_the_index(app: App) -> None:
    app.rows(f"drop index {SIDE}_hnsw")


def load_another_model(app: App) -> None:
    app.embedders["local"] = BagOfWords(768, seed=77)


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (delete_a_vector, "missing rows: 1 of 300"),
        (change_a_text_behind_the_triggers, "stale vectors: 1 vectors"),
        (zero_a_vector, "usable vectors: 1 zero vectors"),
        (leave_an_orphan, "orphans: 1 vectors"),
        (store_another_models_vectors, "stored vectors are this model's: 5 documents"),
        (disable_a_trigger, "triggers: lost or disabled: zz_sllm_update"),
        (drop_the_index, "index: no valid index"),
        (load_another_model, "model: cosine"),
    ],
)
def test_a_planted_fault_is_found(app: App, plant: Callable[[App], None], reason: str) -> None:
    migrated(app)
    assert checked(app).safe
    plant(app)
    found = checked(app)
    assert not found.safe
    assert any(why.startswith(reason) for why in found.reasons), found.reasons
    assert "NOT SAFE" in report.terminal(found)
    assert app.value("select state from sllm.embedding_spaces where provider='local'") == "filled"


def test_labelled_queries_compare_both_spaces(app: App, tmp_path: Path) -> None:
    migrated(app)
    path = tmp_path / "queries.jsonl"
    lines = [json.dumps({"query": text_of(n), "relevant": [n + 1]}) for n in range(20)]
    path.write_text("\n".join(lines), encoding="utf-8")
    found = checked(app, labelled=path)
    assert [c.metric for c in found.comparisons] == ["nDCG@10", "recall@10"]
    assert all(c.new == c.old == 1.0 for c in found.comparisons)
    assert report.as_html(found).count("<svg") == 3


def test_ranking_metrics_on_literal_cases() -> None:
    assert ranking.ndcg([1, 2, 3], {"1": 1.0}) == 1.0
    assert ranking.ndcg([2, 1], {"1": 1.0}) == pytest.approx(0.6309, abs=1e-4)
    assert ranking.ndcg([3], {"1": 1.0}) == 0.0
    assert ranking.recall([1, 9], {"1": 1.0, "2": 1.0}) == 0.5


def test_a_worse_space_is_called_worse() -> None:
    queries = [Labelled(str(n), {"1": 1.0}) for n in range(40)]
    good, bad = [[1]] * 40, [[2]] * 30 + [[1]] * 10
    worse = ranking.compare("nDCG@10", ranking.ndcg, queries, bad, good)
    assert worse.worse
    assert worse.new == pytest.approx(0.25)
    same = ranking.compare("nDCG@10", ranking.ndcg, queries, good, good)
    assert not same.worse
    found = Report("local", [], comparisons=[worse])
    assert not found.safe


def test_a_line_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text('{"query": "a", "relevant": [1]}\n{"query": "b"}\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"queries\.jsonl:2 cannot be used"):
        ranking.load(path)


def test_an_unverified_database_is_told_to_upgrade(app: App) -> None:
    with pytest.raises(ConfigurationError, match="sllm db upgrade"):
        checked(app)
    app.upgrade("0001")
    with pytest.raises(ConfigurationError, match="sllm db upgrade"):
        checked(app)
    app.upgrade(runner.EXPANDED)
    assert checked(app).reasons == ["index: no valid index: searches read every vector"]
