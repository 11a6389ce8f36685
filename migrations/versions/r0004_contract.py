"""Contract: drop the app's own vector column. Nothing brings its vectors back.

Not part of `sllm db upgrade`. Refuses without an explicit yes, while the other space lacks a row,
and while a process that reads the column has been seen within a day.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from typing import Any

from alembic import op
from alembic.util import CommandError

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

IN_USE = """
DO $do$ DECLARE used timestamptz; BEGIN
    SELECT max(last_used_at) INTO used FROM {p.schema}.embedding_spaces
        WHERE storage = 'app_column' AND last_used_at > now() - interval '1 day';
    IF used IS NOT NULL THEN
        RAISE EXCEPTION 'a process used the space of the column at %', used
            USING HINT = 'Switch every process, wait a day, or repeat with force.';
    END IF;
END $do$
"""

INCOMPLETE = """
DO $do$ DECLARE best record; missing bigint; BEGIN
    SELECT * INTO best FROM {p.schema}.embedding_spaces
        WHERE storage = 'side_table' AND state = 'ready' ORDER BY verified_at DESC LIMIT 1;
    IF best.relation IS NULL THEN
        RAISE EXCEPTION 'no other space was verified' USING HINT = 'Run the verification first.';
    END IF;
    missing := {p.schema}.missing(best.name);
    IF missing > 0 THEN
        RAISE EXCEPTION 'the space % lacks % rows', best.name, missing
            USING HINT = 'Run the backfill first.';
    END IF;
END $do$
"""


def upgrade() -> None:
    p: Any = op.get_context().opts["parameters"]
    if not p.contract_confirmed:
        raise CommandError(
            "Contract (0004) drops the column of the old vectors for good. Run `sllm db contract "
            "--yes`; `alembic upgrade 0003` is everything before it."
        )
    if not p.embedding:
        raise CommandError("There is no vector column of the app's own to drop.")
    if not p.force:
        op.execute(IN_USE.format(p=p))
    op.execute(INCOMPLETE.format(p=p))
    script = op.get_context().environment_context.script  # type: ignore[union-attr]
    script.get_revision("0002").module.create_triggers(p.without_column())
    op.execute(f"ALTER TABLE {p.table} DROP COLUMN {p.embedding}")
    op.execute(
        f"UPDATE {p.schema}.embedding_spaces SET state = 'retired' WHERE storage = 'app_column'"
    )
    op.execute(f"UPDATE {p.schema}.source SET embedding_column = NULL")


def downgrade() -> None:
    raise CommandError(
        "The vectors of the dropped column are gone, so this cannot be undone here. Add the column "
        "again and fill it from the archive that `sllm db contract --archive` wrote."
    )
