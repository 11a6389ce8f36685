"""Expand: the registry of spaces, a side table per space, the queue and its triggers.

The app's table gets four triggers and nothing else: no column, no foreign key (one would make the
app's TRUNCATE and DROP TABLE fail), no rewritten row. Creating a trigger does not block readers.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from typing import Any

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

REGISTRY = """
CREATE TABLE {p.schema}.source (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    table_schema text NOT NULL, table_name text NOT NULL, id_column text NOT NULL,
    id_type text NOT NULL, text_columns text[] NOT NULL, metadata_column text,
    embedding_column text);
CREATE TABLE {p.schema}.embedding_spaces (
    id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    provider text NOT NULL, model text NOT NULL, revision text NOT NULL,
    pooling text, normalised boolean, dimensions integer NOT NULL,
    element text NOT NULL CHECK (element IN ('vector', 'halfvec')),
    metric text NOT NULL CHECK (metric IN ('cosine', 'l2', 'ip')),
    fingerprint text NOT NULL UNIQUE, probe real[],
    storage text NOT NULL CHECK (storage IN ('app_column', 'side_table')),
    relation text NOT NULL,
    state text NOT NULL CHECK (state IN ('filling', 'filled', 'ready', 'retired')),
    created_at timestamptz NOT NULL DEFAULT now(),
    filled_at timestamptz, verified_at timestamptz, last_used_at timestamptz);
CREATE TABLE {p.schema}.queue (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    space_id smallint NOT NULL, row_id {p.key_type} NOT NULL,
    enqueued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    claimed_by integer, lease_until timestamptz NOT NULL DEFAULT '-infinity',
    attempts smallint NOT NULL DEFAULT 0);
CREATE INDEX queue_by_space ON {p.schema}.queue (space_id, seq);
ALTER TABLE {p.schema}.queue SET (autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_insert_threshold = -1);
CREATE TABLE {p.schema}.backfill_chunks (
    space_id smallint NOT NULL, chunk integer NOT NULL,
    first_id {p.key_type} NOT NULL, last_id {p.key_type} NOT NULL, done_to {p.key_type},
    rows integer NOT NULL, rows_done integer NOT NULL DEFAULT 0,
    done boolean NOT NULL DEFAULT false,
    claimed_by integer, lease_until timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (space_id, chunk));
CREATE TABLE {p.schema}.dead_letters (
    space_id smallint NOT NULL, row_id {p.key_type} NOT NULL, content_hash bytea NOT NULL,
    reason text NOT NULL, failed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (space_id, row_id));
CREATE TABLE {p.schema}.events (
    at timestamptz NOT NULL DEFAULT clock_timestamp(), space text, what text NOT NULL,
    detail jsonb NOT NULL DEFAULT jsonb_build_object());
"""

CONTENT_HASH = """
CREATE FUNCTION {p.schema}.content_hash(content text) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $f$ SELECT substring(sha256(convert_to(content, 'UTF8')) FOR 16) $f$
"""

EXTENSION = (
    "(SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
    "WHERE e.extname = 'vector')"
)

CREATE_SPACE = """
CREATE FUNCTION {p.schema}.create_space(
    name text, provider text, model text, revision text, dimensions integer, element text,
    metric text, fingerprint text, storage text, relation text, probe real[],
    pooling text, normalised boolean) RETURNS smallint
LANGUAGE plpgsql AS $f$
DECLARE made smallint;
BEGIN
    INSERT INTO {p.schema}.embedding_spaces (name, provider, model, revision, dimensions, element,
        metric, fingerprint, storage, relation, probe, pooling, normalised, state)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
        CASE WHEN $9 = 'app_column' THEN 'ready' ELSE 'filling' END) RETURNING id INTO made;
    IF $9 = 'side_table' THEN
        EXECUTE format('CREATE TABLE {p.schema}.%I (row_id {p.key_type} PRIMARY KEY, '
            'embedding %I.%I(%s) NOT NULL, content_hash bytea NOT NULL, '
            'embedded_at timestamptz NOT NULL DEFAULT now())', $10, {extension}, $6, $5);
    END IF;
    PERFORM {p.schema}.grant_access();
    RETURN made;
END $f$
"""

# Whoever may read or change the app's table may do the same with its vectors. Where row-level
# security decides who sees a document, it decides who sees its vectors. Run again by every upgrade.
GRANT_ACCESS = """
CREATE FUNCTION {p.schema}.grant_access() RETURNS void LANGUAGE plpgsql AS $f$
DECLARE g record; side record; secured boolean;
BEGIN
    SELECT relrowsecurity INTO secured FROM pg_class WHERE oid = {p.table_literal}::regclass;
    FOR side IN
        SELECT s.relation, c.relrowsecurity FROM {p.schema}.embedding_spaces s JOIN pg_class c
        ON c.oid = to_regclass(format('{p.schema}.%I', s.relation))
        WHERE s.storage = 'side_table' AND s.state <> 'retired'
    LOOP
        IF secured AND NOT side.relrowsecurity THEN
            EXECUTE format('CREATE POLICY of_its_document ON {p.schema}.%I '
                'USING ({p.schema}.visible(row_id))', side.relation);
            EXECUTE format('ALTER TABLE {p.schema}.%I ENABLE ROW LEVEL SECURITY', side.relation);
        ELSIF side.relrowsecurity AND NOT secured THEN
            EXECUTE format('ALTER TABLE {p.schema}.%I DISABLE ROW LEVEL SECURITY', side.relation);
            EXECUTE format('DROP POLICY of_its_document ON {p.schema}.%I', side.relation);
        END IF;
    END LOOP;
    FOR g IN
        SELECT a.privilege_type, s.relation,
               CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END role
        FROM pg_class c CROSS JOIN aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
        LEFT JOIN pg_roles r ON r.oid = a.grantee
        CROSS JOIN {p.schema}.embedding_spaces s
        WHERE c.oid = {p.table_literal}::regclass AND a.privilege_type IN ('SELECT', 'INSERT')
          AND a.grantee <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
          AND s.storage = 'side_table' AND s.state <> 'retired'
    LOOP
        IF g.privilege_type = 'SELECT' THEN
            EXECUTE format('GRANT USAGE ON SCHEMA {p.schema} TO %s', g.role);
            EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA {p.schema} TO %s', g.role);
            EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {p.schema} TO %s', g.role);
        ELSE
            EXECUTE format('GRANT INSERT, UPDATE, DELETE ON {p.schema}.%I TO %s',
                g.relation, g.role);
        END IF;
    END LOOP;
END $f$
"""

# For the policies of side tables. Not SQL, which would be inlined and planned as a hash of all
# documents; a search asks about the few rows that the index proposes.
VISIBLE = """
CREATE FUNCTION {p.schema}.visible(row_id {p.id_type}) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $f$ BEGIN RETURN EXISTS (SELECT FROM {p.table} d WHERE d.{p.id} = $1); END $f$
"""

# The triggers run with their owner's rights: an app's role needs none on the queue. Their search
# path is pinned. Nothing in them names the extension's schema: an app's writes go on when a DBA
# moves the extension.
# The setting sllm.written names the spaces that the current transaction has itself written.
TOUCHED = """
CREATE OR REPLACE FUNCTION {p.schema}.touched_{event}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE space record; written text[] :=
    string_to_array(coalesce(current_setting('sllm.written', true), ''), ',');
BEGIN
{body}
    RETURN NULL;
END $f$
"""

INSERTED = """
    INSERT INTO {p.schema}.queue (space_id, row_id)
    SELECT s.id, n.{p.id} FROM {p.schema}.embedding_spaces s CROSS JOIN added n
    WHERE s.state <> 'retired' AND s.name <> ALL (written)
      AND (s.storage = 'side_table' OR {no_vector});
"""

UPDATED = """
    IF new.{p.id} IS DISTINCT FROM old.{p.id} THEN
        FOR space IN SELECT relation FROM {p.schema}.embedding_spaces
                     WHERE storage = 'side_table' AND state <> 'retired' LOOP
            EXECUTE format('DELETE FROM {p.schema}.%I WHERE row_id = $1', space.relation)
            USING old.{p.id};
        END LOOP;
    END IF;
    INSERT INTO {p.schema}.queue (space_id, row_id)
    SELECT s.id, new.{p.id} FROM {p.schema}.embedding_spaces s
    WHERE s.state <> 'retired' AND s.name <> ALL (written)
      AND CASE WHEN s.storage = 'side_table' THEN {text_changed} OR new.{p.id} <> old.{p.id}
               ELSE {vector_left} END;
"""

# A transaction above READ COMMITTED may not see a vector that was written while it ran: the queue
# then names the row, and the worker finds no document and removes the vector.
DELETED = """
    FOR space IN SELECT id, relation FROM {p.schema}.embedding_spaces
                 WHERE storage = 'side_table' AND state <> 'retired' LOOP
        EXECUTE format('DELETE FROM {p.schema}.%I v USING removed r WHERE v.row_id = r.%I',
            space.relation, {p.id_literal});
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            INSERT INTO {p.schema}.queue (space_id, row_id) SELECT space.id, {p.id} FROM removed;
        END IF;
    END LOOP;
"""

TRUNCATED = """
    FOR space IN SELECT relation FROM {p.schema}.embedding_spaces
                 WHERE storage = 'side_table' AND state <> 'retired' LOOP
        EXECUTE format('TRUNCATE {p.schema}.%I', space.relation);
    END LOOP;
    DELETE FROM {p.schema}.queue;
    DELETE FROM {p.schema}.dead_letters;
"""

# Documents without a vector in a space. Poison rows are listed elsewhere and do not count, nor do
# rows that were queued after the entry `since`: they are on their way.
MISSING = """
CREATE FUNCTION {p.schema}.missing(space_name text, since bigint DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql AS $f$
DECLARE found record; answer bigint;
BEGIN
    SELECT * INTO STRICT found FROM {p.schema}.embedding_spaces s WHERE s.name = space_name;
    IF found.storage = 'app_column' THEN
        EXECUTE format('SELECT count(*) FROM %s d WHERE d.%I IS NULL AND NOT EXISTS (SELECT FROM '
            '{p.schema}.dead_letters l WHERE l.space_id = $1 AND l.row_id = d.%I) AND NOT EXISTS '
            '(SELECT FROM {p.schema}.queue q WHERE q.space_id = $1 AND q.row_id = d.%I '
            'AND q.seq > $2)', {p.table_literal}, found.relation, {p.id_literal}, {p.id_literal})
            INTO answer USING found.id, since;
    ELSE
        EXECUTE format('SELECT count(*) FROM %s d WHERE NOT EXISTS (SELECT FROM {p.schema}.%I v '
            'WHERE v.row_id = d.%I) AND NOT EXISTS (SELECT FROM {p.schema}.dead_letters l '
            'WHERE l.space_id = $1 AND l.row_id = d.%I) AND NOT EXISTS (SELECT FROM '
            '{p.schema}.queue q WHERE q.space_id = $1 AND q.row_id = d.%I AND q.seq > $2)',
            {p.table_literal}, found.relation, {p.id_literal}, {p.id_literal}, {p.id_literal})
            INTO answer USING found.id, since;
    END IF;
    RETURN answer;
END $f$
"""

# For an app's role, which has no rights on the queue and the registry.
REQUEUE = """
CREATE FUNCTION {p.schema}.requeue(space_id smallint, ids {p.id_type}[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $f$ INSERT INTO {p.schema}.queue (space_id, row_id) SELECT $1, unnest($2) $f$
"""

USED = """
CREATE FUNCTION {p.schema}.used(space_id smallint, seen_probe real[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $f$ UPDATE {p.schema}.embedding_spaces SET last_used_at = now(),
    probe = coalesce(probe, $2) WHERE id = $1 $f$
"""

NEAREST = """
CREATE FUNCTION {p.schema}.nearest(query {p.extension}.vector, k integer DEFAULT 10,
    space text DEFAULT NULL) RETURNS TABLE (id {p.id_type}, distance double precision)
LANGUAGE plpgsql ROWS 10 SET search_path = pg_catalog, pg_temp AS $f$
DECLARE found record; operator text; known text; vector text; extension name := {extension};
    width integer;
BEGIN
    SELECT * INTO found FROM {p.schema}.embedding_spaces s WHERE s.state <> 'retired'
        AND s.name = coalesce(space, current_setting('sllm.space', true));
    IF found.name IS NULL THEN
        SELECT string_agg(s.name, ', ') INTO known FROM {p.schema}.embedding_spaces s
            WHERE s.state <> 'retired';
        RAISE EXCEPTION 'nearest: there is no space %', coalesce(space,
            current_setting('sllm.space', true), 'set') USING HINT = 'Set sllm.space to one of '
            || known || ', for example options=-c%20sllm.space=NAME in the connection string.';
    END IF;
    EXECUTE format('SELECT %I.vector_dims($1)', extension) INTO width USING query;
    IF width <> found.dimensions THEN
        RAISE EXCEPTION 'nearest: the query has % dimensions, the space % has %',
            width, found.name, found.dimensions;
    END IF;
    operator := CASE found.metric WHEN 'cosine' THEN '<=>' WHEN 'l2' THEN '<->' ELSE '<#>' END;
    vector := CASE found.storage WHEN 'side_table' THEN 'embedding' ELSE found.relation END;
    PERFORM set_config('hnsw.ef_search', least(1000, greatest(100, k))::text, true);
    -- Rows that the policies hide are passed over, or fewer than k would be left.
    IF row_security_active({p.table_literal}::regclass) THEN
        PERFORM set_config('hnsw.ef_search', '1000', true);
        PERFORM set_config('hnsw.iterative_scan', 'relaxed_order', true)
            FROM pg_settings WHERE name = 'hnsw.iterative_scan';
    END IF;
    RETURN QUERY EXECUTE format('SELECT v.%I, v.%I OPERATOR(%I.%s) $1::%I.%I FROM %s v '
        'WHERE v.%I IS NOT NULL ORDER BY v.%I OPERATOR(%I.%s) $1::%I.%I LIMIT $2',
        CASE found.storage WHEN 'side_table' THEN 'row_id' ELSE {p.id_literal} END,
        vector, extension, operator, extension, found.element,
        CASE found.storage WHEN 'side_table' THEN format('{p.schema}.%I', found.relation)
                           ELSE {p.table_literal} END,
        vector, vector, extension, operator, extension, found.element) USING query, k;
END $f$
"""

REFUSE_LOSS = """
DO $do$ DECLARE side text; found boolean; BEGIN
    FOR side IN SELECT relation FROM {p.schema}.embedding_spaces
                WHERE storage = 'side_table' AND state <> 'retired' LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM {p.schema}.%I v JOIN %s d ON d.%I = v.row_id '
            'WHERE %s)', side, {p.table_literal}, {p.id_literal}, {no_other}) INTO found;
        IF found THEN
            RAISE EXCEPTION 'rows have their only vector in %', side
                USING HINT = 'Let the other space catch up (sync), or repeat with force.';
        END IF;
    END LOOP;
END $do$
"""


def upgrade() -> None:
    p: Any = op.get_context().opts["parameters"]
    for statement in filter(str.strip, REGISTRY.format(p=p).split(";")):
        op.execute(statement)
    op.execute(
        f"INSERT INTO {p.schema}.source (table_schema, table_name, id_column, id_type, "
        f"text_columns, metadata_column, embedding_column) VALUES ({p.source_values})"
    )
    op.execute(CONTENT_HASH.format(p=p))
    for function in (VISIBLE, GRANT_ACCESS, CREATE_SPACE, MISSING, REQUEUE, USED, NEAREST):
        op.execute(function.format(p=p, extension=EXTENSION))
    for space in p.spaces:
        op.execute(f"SELECT {p.schema}.create_space({space})")
    create_triggers(p)


def create_triggers(p: Any) -> None:
    """Also run by the contract revision, which takes the app's column out of them, and to repair.

    OR REPLACE, because DROP TRIGGER would lock readers out, IF EXISTS or not. The UPDATE trigger
    has no column list: it would miss what the app's own BEFORE triggers change. Values are compared
    byte by byte, whatever a collation or a type such as citext takes for equal.
    """
    texts = ", ".join(f"old.{c}" for c in p.texts), ", ".join(f"new.{c}" for c in p.texts)
    text_changed = "ROW({})::record OPERATOR(pg_catalog.*<>) ROW({})::record".format(*texts)
    unchanged = "ROW(old.{0})::record OPERATOR(pg_catalog.*=) ROW(new.{0})::record"
    unchanged = unchanged.format(p.embedding or "")
    emptied = "new.{0} IS NULL AND old.{0} IS NOT NULL".format(p.embedding or "")
    # A function cannot read virtual columns; that it was called says enough.
    seen = "true" if p.has_virtual_text else text_changed
    vector_left = f"(({seen}) AND {unchanged}) OR ({emptied})" if p.embedding else "false"
    no_vector = f"n.{p.embedding} IS NULL" if p.embedding else "false"
    bodies = {
        "insert": INSERTED.format(p=p, no_vector=no_vector),
        "update": UPDATED.format(p=p, text_changed=seen, vector_left=vector_left),
        "delete": DELETED.format(p=p),
        "truncate": TRUNCATED.format(p=p),
    }
    changed = f"old.{p.id} IS DISTINCT FROM new.{p.id} OR {text_changed}"
    if p.embedding:
        changed += f" OR ({emptied})"
    timing = {
        "insert": "AFTER INSERT ON {0} REFERENCING NEW TABLE AS added FOR EACH STATEMENT",
        "update": f"AFTER UPDATE ON {{0}} FOR EACH ROW WHEN ({changed})",
        "delete": "AFTER DELETE ON {0} REFERENCING OLD TABLE AS removed FOR EACH STATEMENT",
        "truncate": "AFTER TRUNCATE ON {0} FOR EACH STATEMENT",
    }
    for event, body in bodies.items():
        op.execute(TOUCHED.format(p=p, event=event, body=body))
        op.execute(
            f"CREATE OR REPLACE TRIGGER {p.trigger(event)} {timing[event].format(p.table)} "
            f"EXECUTE FUNCTION {p.schema}.touched_{event}()"
        )


def downgrade() -> None:
    """Remove exactly what was added; refuses while a row's only vector is in a side table."""
    p: Any = op.get_context().opts["parameters"]
    if not p.force:
        op.execute(_refuse_loss(p))
    for event in ("insert", "update", "delete", "truncate"):
        op.execute(f"DROP TRIGGER IF EXISTS {p.trigger(event)} ON {p.table}")
        op.execute(f"DROP FUNCTION {p.schema}.touched_{event}()")
    op.execute(
        f"DO $do$ DECLARE side text; BEGIN FOR side IN SELECT relation FROM "
        f"{p.schema}.embedding_spaces WHERE storage = 'side_table' AND state <> 'retired' LOOP "
        f"EXECUTE format('DROP TABLE {p.schema}.%I', side); END LOOP; END $do$"
    )
    op.execute(f"DROP FUNCTION {p.schema}.nearest, {p.schema}.create_space, {p.schema}.missing")
    op.execute(f"DROP FUNCTION {p.schema}.grant_access, {p.schema}.content_hash")
    op.execute(f"DROP FUNCTION {p.schema}.requeue, {p.schema}.used, {p.schema}.visible")
    for name in ("events", "dead_letters", "backfill_chunks", "queue", "embedding_spaces"):
        op.execute(f"DROP TABLE {p.schema}.{name}")
    op.execute(f"DROP TABLE {p.schema}.source")


def _refuse_loss(p: Any) -> str:
    no_other = f"format('d.%I IS NULL', {p.embedding_literal})" if p.embedding else "'true'"
    return REFUSE_LOSS.format(p=p, no_other=no_other)
