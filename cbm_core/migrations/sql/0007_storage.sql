-- cbm: expand
-- Months of signatures that can be put in parcel order while they are read and written.
--
-- A month is a partitioned table of its own with one leaf. Its leaf can then be exchanged under a lock
-- on that month alone; readers of other months are not in the way, and do not wait.

CREATE TABLE signature_partition_state (
  dataset_id smallint NOT NULL REFERENCES dataset,
  month date NOT NULL CHECK (month = date_trunc('month', month)),
  compacted_at timestamptz NOT NULL,
  rows bigint NOT NULL,
  PRIMARY KEY (dataset_id, month)
);
COMMENT ON TABLE signature_partition_state IS 'When a month of a dataset was last put in parcel order, and the rows it had then; runs that finished later are not in it.';
SELECT protect_by_dataset('signature_partition_state', 'dataset_id');

CREATE FUNCTION create_signature_leaf(leaf text, dataset smallint, month date) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, cbm, pg_temp AS $$
BEGIN
  EXECUTE format('CREATE TABLE cbm.%I (LIKE cbm.signature INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', leaf);
  -- Nobody searches by these, and analysing arrays takes ten times as long as all the rest.
  EXECUTE format('ALTER TABLE cbm.%I ALTER stats SET STATISTICS 0, ALTER class_counts SET STATISTICS 0', leaf);
  EXECUTE format('GRANT INSERT ON cbm.%I TO cbm_ingest', leaf);
  -- With it a filled leaf is attached without being read.
  EXECUTE format('ALTER TABLE cbm.%I ADD CONSTRAINT in_month CHECK (dataset_id = %s::smallint AND obstime >= %L AND obstime < %L)',
                 leaf, dataset, month::timestamp AT TIME ZONE 'UTC',
                 (month + interval '1 month')::timestamp AT TIME ZONE 'UTC');
END
$$;
REVOKE ALL ON FUNCTION create_signature_leaf FROM PUBLIC;

CREATE FUNCTION attach_signature_leaf(leaf text, parent text, month date) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, cbm, pg_temp AS $$
BEGIN
  EXECUTE format('ALTER TABLE cbm.%I ATTACH PARTITION cbm.%I FOR VALUES FROM (%L) TO (%L)', parent, leaf,
                 month::timestamp AT TIME ZONE 'UTC',
                 (month + interval '1 month')::timestamp AT TIME ZONE 'UTC');
  EXECUTE format('ALTER TABLE cbm.%I DROP CONSTRAINT IF EXISTS in_month', leaf);
END
$$;
REVOKE ALL ON FUNCTION attach_signature_leaf FROM PUBLIC;

-- Partitions are made detached and then attached, so that readers are never locked out.
CREATE OR REPLACE FUNCTION ensure_signature_partition(dataset smallint, month date) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, cbm, pg_temp AS $$
DECLARE
  first_day date := date_trunc('month', month)::date;
  parent text := format('signature_d%s', dataset);
  months text := format('signature_d%s_m%s', dataset, to_char(month, 'YYYYMM'));
  leaf text := format('signature_d%s_%s', dataset, to_char(month, 'YYYYMM'));
  present name[];
BEGIN
  IF NOT EXISTS (SELECT FROM cbm.dataset d WHERE d.id = dataset AND purged_at IS NULL) THEN
    RAISE EXCEPTION 'no dataset %', dataset USING ERRCODE = 'no_data_found';
  END IF;
  -- Names of months say neither BC nor five digits of a year.
  IF first_day NOT BETWEEN '1900-01-01' AND '2999-12-31' THEN
    RAISE EXCEPTION 'no image is of %', month USING ERRCODE = 'datetime_field_overflow';
  END IF;
  IF to_regclass(format('cbm.%I', leaf)) IS NOT NULL THEN
    RETURN leaf;
  END IF;
  PERFORM pg_advisory_xact_lock(hashtext('cbm.signature_partition'));
  -- Asked of the catalogue: to_regclass remembers the answer from before the lock was waited for.
  SELECT array_agg(relname) INTO present FROM pg_class
  WHERE relnamespace = 'cbm'::regnamespace AND relname IN (parent, leaf);
  IF parent = ANY (present) IS NOT TRUE THEN
    EXECUTE format('CREATE TABLE cbm.%I (LIKE cbm.signature INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
                    PARTITION BY RANGE (obstime)', parent);
    EXECUTE format('ALTER TABLE cbm.signature ATTACH PARTITION cbm.%I FOR VALUES IN (%s)', parent, dataset);
  END IF;
  IF leaf = ANY (present) IS NOT TRUE THEN
    EXECUTE format('CREATE TABLE cbm.%I (LIKE cbm.signature INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
                    PARTITION BY RANGE (obstime)', months);
    PERFORM cbm.create_signature_leaf(leaf, dataset, first_day);
    EXECUTE format('CREATE UNIQUE INDEX %I ON cbm.%I (geometry_id, scene_id, product_id)', leaf || '_key', leaf);
    PERFORM cbm.attach_signature_leaf(leaf, months, first_day);
    PERFORM cbm.attach_signature_leaf(months, parent, first_day);
  END IF;
  RETURN leaf;
END
$$;

-- Months made before: each leaf gets its table in between.
DO $$
DECLARE
  found record;
  months text;
BEGIN
  FOR found IN
    SELECT parent.relname AS parent, leaf.relname AS leaf, pg_get_expr(leaf.relpartbound, leaf.oid) AS bound
    FROM pg_inherits root
    JOIN pg_class parent ON parent.oid = root.inhrelid
    JOIN pg_inherits i ON i.inhparent = parent.oid
    JOIN pg_class leaf ON leaf.oid = i.inhrelid AND leaf.relkind = 'r'
    WHERE root.inhparent = 'cbm.signature'::regclass
  LOOP
    months := regexp_replace(found.leaf, '_(\d{6})$', '_m\1');
    EXECUTE format('ALTER TABLE cbm.%I DETACH PARTITION cbm.%I', found.parent, found.leaf);
    EXECUTE format('CREATE TABLE cbm.%I (LIKE cbm.signature INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
                    PARTITION BY RANGE (obstime)', months);
    EXECUTE format('ALTER TABLE cbm.%I ATTACH PARTITION cbm.%I %s', months, found.leaf, found.bound);
    EXECUTE format('ALTER TABLE cbm.%I ATTACH PARTITION cbm.%I %s', found.parent, months, found.bound);
  END LOOP;
END
$$;

-- How far a month is from parcel order: of up to a thousand blocks of its heap, in the order in which
-- they lie, the share that stands outside the longest series of rising geometry ids. 0 after
-- compaction; 1 - 1/n when n like scenes were appended.
CREATE FUNCTION signature_disorder(dataset smallint, month date) RETURNS double precision
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, cbm, pg_temp AS $$
DECLARE
  leaf regclass := to_regclass(format('cbm.%I', format('signature_d%s_%s', dataset, to_char(month, 'YYYYMM'))));
  blocks bigint := pg_relation_size(leaf) / current_setting('block_size')::integer;
  tails integer[] := '{}';  -- the smallest last id of a rising series of each length
  blocks_seen integer := 0;
  id integer;
  low integer;
  high integer;
BEGIN
  IF blocks IS NULL OR blocks = 0 THEN
    RETURN NULL;
  END IF;
  FOR id IN EXECUTE format(
    'SELECT min(geometry_id) FROM %s TABLESAMPLE SYSTEM (%s) REPEATABLE (1)
     GROUP BY (ctid::text::point)[0] ORDER BY (ctid::text::point)[0]', leaf, least(100.0, 1e5 / blocks))
  LOOP
    blocks_seen := blocks_seen + 1;
    low := 1;
    high := cardinality(tails) + 1;
    WHILE low < high LOOP
      IF tails[(low + high) / 2] <= id THEN
        low := (low + high) / 2 + 1;
      ELSE
        high := (low + high) / 2;
      END IF;
    END LOOP;
    tails[low] := id;
  END LOOP;
  RETURN CASE WHEN blocks_seen > 0 THEN 1 - cardinality(tails)::double precision / blocks_seen END;
END
$$;
REVOKE ALL ON FUNCTION signature_disorder FROM PUBLIC;
GRANT EXECUTE ON FUNCTION signature_disorder TO cbm_ingest;

-- Takes a table from everybody at once or not at all: tried shortly and often, because whoever comes
-- while a lock is waited for waits too. A vacuum is at last given the time it takes autovacuum to step
-- aside (deadlock_timeout, 1 s).
CREATE FUNCTION lock_soon(target text, mode text, attempts integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, cbm, pg_temp SET lock_timeout = '100ms' AS $$
BEGIN
  FOR attempt IN 1..attempts LOOP
    IF attempt = attempts AND EXISTS (
      SELECT FROM pg_locks l JOIN pg_partition_tree(format('cbm.%I', target)::regclass) t ON t.relid = l.relation
      WHERE l.granted AND l.mode = 'ShareUpdateExclusiveLock'
    ) THEN
      PERFORM set_config('lock_timeout', '2s', true);
    END IF;
    BEGIN
      EXECUTE format('LOCK TABLE cbm.%I IN %s MODE', target, mode);
      RETURN;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
      IF attempt = attempts THEN
        RAISE;
      END IF;
    END;
    PERFORM pg_sleep(0.3);
  END LOOP;
END
$$;
REVOKE ALL ON FUNCTION lock_soon FROM PUBLIC;

-- Rewrites a month in parcel order, so that one parcel's series lies together on disk. A new leaf is
-- filled while readers and writers go on; then writers wait while what they wrote meanwhile is added,
-- and all wait for the moment of the exchange. Raises lock_not_available when somebody else compacts
-- the month, has it open for long, or changed rows of it meanwhile: nothing is done then.
CREATE OR REPLACE FUNCTION compact_signature_partition(dataset smallint, month date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, cbm, pg_temp SET work_mem = '128MB' SET maintenance_work_mem = '128MB' AS $$
DECLARE
  first_day date := date_trunc('month', month)::date;
  months text := format('signature_d%s_m%s', dataset, to_char(month, 'YYYYMM'));
  leaf text := format('signature_d%s_%s', dataset, to_char(month, 'YYYYMM'));
  fresh text := leaf || '_new';
  seen pg_snapshot;
  unseen xid[];
  until timestamptz;
  old_rows bigint;
  new_rows bigint;
BEGIN
  IF to_regclass(format('cbm.%I', leaf)) IS NULL THEN
    RETURN;
  END IF;
  IF NOT pg_try_advisory_xact_lock(hashtext('cbm.compact'), hashtext(leaf)) THEN
    RAISE EXCEPTION 'month % is being compacted', leaf USING ERRCODE = 'lock_not_available';
  END IF;
  BEGIN  -- a long reader is known before the work is done; the lock goes with the exception
    PERFORM cbm.lock_soon(months, 'ACCESS EXCLUSIVE', 5);
    RAISE EXCEPTION 'free' USING ERRCODE = 'CBM00';
  EXCEPTION WHEN SQLSTATE 'CBM00' THEN
    NULL;
  END;

  PERFORM cbm.create_signature_leaf(fresh, dataset, first_day);
  -- One statement: the snapshot is the one that the rows were read with.
  EXECUTE format('WITH copied AS (INSERT INTO cbm.%I SELECT * FROM cbm.%I ORDER BY geometry_id, scene_id, product_id)
                  SELECT pg_current_snapshot()', fresh, leaf) INTO seen;
  EXECUTE format('CREATE UNIQUE INDEX %I ON cbm.%I (geometry_id, scene_id, product_id)', fresh || '_key', fresh);
  EXECUTE format('ANALYZE cbm.%I', fresh);

  PERFORM cbm.lock_soon(leaf, 'SHARE ROW EXCLUSIVE', 30);
  until := clock_timestamp();
  unseen := array(SELECT ((x::text::bigint & 4294967295)::text)::xid FROM pg_snapshot_xip(seen) AS x);
  BEGIN
    EXECUTE format('INSERT INTO cbm.%I SELECT * FROM cbm.%I WHERE age(xmin) <= age($1) OR xmin = ANY ($2)', fresh, leaf)
      USING ((pg_snapshot_xmax(seen)::text::bigint & 4294967295)::text)::xid, unseen;
    EXECUTE format('SELECT (SELECT count(*) FROM cbm.%I), (SELECT count(*) FROM cbm.%I)', leaf, fresh)
      INTO old_rows, new_rows;
  EXCEPTION WHEN unique_violation THEN
    new_rows := -1;
  END;
  IF old_rows IS DISTINCT FROM new_rows THEN
    RAISE EXCEPTION 'month % was changed while it was compacted', leaf USING ERRCODE = 'lock_not_available';
  END IF;

  PERFORM cbm.lock_soon(months, 'ACCESS EXCLUSIVE', 10);
  EXECUTE format('ALTER TABLE cbm.%I DETACH PARTITION cbm.%I', months, leaf);
  EXECUTE format('DROP TABLE cbm.%I', leaf);
  EXECUTE format('ALTER TABLE cbm.%I RENAME TO %I', fresh, leaf);
  EXECUTE format('ALTER INDEX cbm.%I RENAME TO %I', fresh || '_key', leaf || '_key');
  PERFORM cbm.attach_signature_leaf(leaf, months, first_day);
  INSERT INTO cbm.signature_partition_state AS s VALUES (dataset, first_day, until, new_rows)
  ON CONFLICT ON CONSTRAINT signature_partition_state_pkey
  DO UPDATE SET compacted_at = excluded.compacted_at, rows = excluded.rows;
END
$$;

CREATE FUNCTION forget_partition_state() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, cbm, pg_temp AS $$
BEGIN
  DELETE FROM cbm.signature_partition_state WHERE dataset_id = NEW.id;
  RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION forget_partition_state FROM PUBLIC;
CREATE TRIGGER dataset_purged_state AFTER UPDATE OF purged_at ON dataset
  FOR EACH ROW WHEN (OLD.purged_at IS NULL AND NEW.purged_at IS NOT NULL) EXECUTE FUNCTION forget_partition_state();

-- For clients that know parcels by numbers (`cbm dataset legacy-views`).
CREATE FUNCTION whole_number(id text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN id ~ '^(0|[1-9][0-9]{0,17})$' THEN id::bigint END
$$;
COMMENT ON FUNCTION whole_number IS 'An id that is a whole number without leading zeros, as a number; NULL for others.';
