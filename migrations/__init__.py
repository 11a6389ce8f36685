"""Schema revisions (Alembic) and the jobs on data: backfill, verify, contract."""
