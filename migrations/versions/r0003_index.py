"""Index: an HNSW index for each side table, built while everybody reads and writes.

Refuses while the backfill is unfinished: inserting into an index costs some thirty times more
than building it. A build that was interrupted leaves an invalid index; it is dropped and redone.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from typing import Any

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UNFINISHED = """
DO $do$ DECLARE space text; missing bigint; BEGIN
    FOR space IN SELECT name FROM {p.schema}.embedding_spaces
                 WHERE storage = 'side_table' AND state = 'filling' LOOP
        missing := {p.schema}.missing(space);
        IF missing > 0 THEN
            RAISE EXCEPTION 'the space % lacks % rows', space, missing
                USING HINT = 'Run the backfill first.',
                      ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
    END LOOP;
END $do$
"""

# The literal `DROP INDEX CONCURRENTLY` cannot run inside DO, so an invalid index is dropped the
# plain way: nobody can be using it.
DROP_INVALID = """
DO $do$ BEGIN
    IF EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass({name}) AND NOT indisvalid)
    THEN DROP INDEX {index}; END IF;
END $do$
"""


def upgrade() -> None:
    p: Any = op.get_context().opts["parameters"]
    if not p.force:
        op.execute(UNFINISHED.format(p=p))
    for side in p.sides:
        name = p.literal(side.index)
        op.execute(DROP_INVALID.format(index=side.index, name=name))
        with op.get_context().autocommit_block():
            for setting, value in p.index_settings:
                op.execute(f"SET {setting} = {value}")
            op.execute(
                f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {side.index_name} ON {side.table} "
                f"USING hnsw (embedding {side.operator_class}) "
                f"WITH (m = {p.hnsw_m}, ef_construction = {p.hnsw_ef_construction})"
            )
            for setting, _ in p.index_settings:
                op.execute(f"RESET {setting}")


def downgrade() -> None:
    p: Any = op.get_context().opts["parameters"]
    for side in p.sides:
        op.execute(f"DROP INDEX IF EXISTS {side.index}")
