"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""

from __future__ import annotations

from typing import Any

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    p: Any = op.get_context().opts["parameters"]
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    p: Any = op.get_context().opts["parameters"]
    ${downgrades if downgrades else "pass"}
