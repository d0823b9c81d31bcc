-- cbm: expand
-- The ledger (what is to be extracted, by whom, how often tried), the evidence of each extraction,
-- and the statistics.

CREATE SEQUENCE lease_token AS bigint;

CREATE TABLE work_item (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  scene_id integer NOT NULL REFERENCES scene,
  dataset_id smallint NOT NULL REFERENCES dataset,
  product_id smallint NOT NULL REFERENCES product,
  state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'running', 'done', 'failed')),
  parcel_set_id integer NOT NULL DEFAULT 0,
  token bigint,
  worker text,
  lease_until timestamptz,
  attempts smallint NOT NULL DEFAULT 0,
  error_code text,
  error text,
  enqueued_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz,
  finished_at timestamptz,
  UNIQUE (scene_id, dataset_id, product_id),
  CHECK ((state = 'running') = (token IS NOT NULL)),
  CHECK ((state = 'running') = (lease_until IS NOT NULL))
);
COMMENT ON COLUMN work_item.parcel_set_id IS 'The newest parcel set whose geometries the stored rows cover; 0 before the first extraction.';
CREATE INDEX work_item_open ON work_item (scene_id) WHERE state IN ('pending', 'running');
CREATE INDEX work_item_dataset ON work_item (dataset_id, state);

CREATE TABLE run (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  scene_id integer NOT NULL,
  dataset_id smallint NOT NULL,
  product_id smallint NOT NULL,
  scope text NOT NULL CHECK (scope IN ('full', 'delta')),
  parcel_set_from integer NOT NULL,
  parcel_set_to integer NOT NULL,
  token bigint NOT NULL,
  worker text NOT NULL,
  software_version text NOT NULL,
  product_hash bytea NOT NULL,
  plans jsonb NOT NULL,
  assets jsonb NOT NULL,
  missing_bands text[] NOT NULL DEFAULT '{}',
  rows integer NOT NULL,
  digest bytea NOT NULL,
  started_at timestamptz NOT NULL,
  finished_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE run IS 'Append-only evidence of each completed extraction. Never deleted, not even by a purge: it holds no personal data.';
COMMENT ON COLUMN run.digest IS 'sha256 of the slice written, rows in order of geometry id; `plans` are content hashes, `assets` size, time or etag, scale and offset used.';
CREATE INDEX run_slice ON run (dataset_id, scene_id, product_id);

CREATE TABLE signature (
  obstime timestamptz NOT NULL,
  geometry_id integer NOT NULL,
  scene_id integer NOT NULL,
  px_imaged integer NOT NULL CHECK (px_imaged > 0),
  px_clear integer NOT NULL CHECK (px_clear >= 0),
  dataset_id smallint NOT NULL,
  product_id smallint NOT NULL,
  tile_rank smallint NOT NULL,
  stats real[] CHECK ((stats IS NULL) = (px_clear = 0)),
  class_counts bytea
) PARTITION BY LIST (dataset_id);
COMMENT ON TABLE signature IS 'Statistics of one geometry in one scene under one product. Partitions: dataset, then month of obstime; each leaf has the unique key (geometry_id, scene_id, product_id).';
COMMENT ON COLUMN signature.stats IS 'count, mean, std, min, max, p25, p50, p75 of each of product.variables, NaN where a variable has no value.';
COMMENT ON COLUMN signature.class_counts IS 'Scene classification: 4 bytes per class present: class, then pixel count (3 bytes, big-endian).';

-- Partitions are made detached and then attached, so that readers are never locked out.
CREATE FUNCTION ensure_signature_partition(dataset smallint, month date) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, cbm, pg_temp AS $$
DECLARE
  first_day date := date_trunc('month', month)::date;
  next_month date := (date_trunc('month', month) + interval '1 month')::date;
  parent text := format('signature_d%s', dataset);
  leaf text := format('signature_d%s_%s', dataset, to_char(month, 'YYYYMM'));
BEGIN
  IF NOT EXISTS (SELECT FROM cbm.dataset d WHERE d.id = dataset AND purged_at IS NULL) THEN
    RAISE EXCEPTION 'no dataset %', dataset USING ERRCODE = 'no_data_found';
  END IF;
  IF to_regclass(format('cbm.%I', leaf)) IS NOT NULL THEN
    RETURN leaf;
  END IF;
  PERFORM pg_advisory_xact_lock(hashtext('cbm.signature_partition'));
  IF to_regclass(format('cbm.%I', parent)) IS NULL THEN
    EXECUTE format('CREATE TABLE cbm.%I (LIKE cbm.signature INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
                    PARTITION BY RANGE (obstime)', parent);
    EXECUTE format('ALTER TABLE cbm.signature ATTACH PARTITION cbm.%I FOR VALUES IN (%s)', parent, dataset);
  END IF;
  IF to_regclass(format('cbm.%I', leaf)) IS NULL THEN
    EXECUTE format('CREATE TABLE cbm.%I (LIKE cbm.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', leaf, parent);
    EXECUTE format('CREATE UNIQUE INDEX ON cbm.%I (geometry_id, scene_id, product_id)', leaf);
    -- Nobody searches by these, and analysing arrays takes ten times as long as all the rest.
    EXECUTE format('ALTER TABLE cbm.%I ALTER stats SET STATISTICS 0, ALTER class_counts SET STATISTICS 0', leaf);
    EXECUTE format('GRANT INSERT ON cbm.%I TO cbm_ingest', leaf);
    EXECUTE format('ALTER TABLE cbm.%I ATTACH PARTITION cbm.%I FOR VALUES FROM (%L) TO (%L)', parent, leaf,
                   first_day::timestamp AT TIME ZONE 'UTC', next_month::timestamp AT TIME ZONE 'UTC');
  END IF;
  RETURN leaf;
END
$$;
REVOKE ALL ON FUNCTION ensure_signature_partition FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_signature_partition TO cbm_ingest;

-- Rewrites a month in parcel order: one parcel's series then lies together on disk.
CREATE FUNCTION compact_signature_partition(dataset smallint, month date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, cbm, pg_temp AS $$
DECLARE
  leaf text := format('signature_d%s_%s', dataset, to_char(month, 'YYYYMM'));
  key text;
BEGIN
  IF to_regclass(format('cbm.%I', leaf)) IS NULL THEN
    RETURN;
  END IF;
  SELECT i.relname INTO key
  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
  WHERE x.indrelid = format('cbm.%I', leaf)::regclass AND x.indisunique;
  EXECUTE format('CLUSTER cbm.%I USING %I', leaf, key);
END
$$;
REVOKE ALL ON FUNCTION compact_signature_partition FROM PUBLIC;
GRANT EXECUTE ON FUNCTION compact_signature_partition TO cbm_ingest;

-- Tells the planner what a month holds: until then it takes the views' joins for small ones.
CREATE FUNCTION analyze_signature_partition(dataset smallint, month date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, cbm, pg_temp AS $$
DECLARE
  leaf text := format('signature_d%s_%s', dataset, to_char(month, 'YYYYMM'));
BEGIN
  IF to_regclass(format('cbm.%I', leaf)) IS NOT NULL THEN
    EXECUTE format('ANALYZE cbm.%I', leaf);
  END IF;
END
$$;
REVOKE ALL ON FUNCTION analyze_signature_partition FROM PUBLIC;
GRANT EXECUTE ON FUNCTION analyze_signature_partition TO cbm_ingest;

CREATE FUNCTION purge_dataset(dataset smallint) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, cbm, pg_temp AS $$
DECLARE
  name text;
  removed jsonb;
BEGIN
  SELECT aoi || ':' || year INTO name FROM cbm.dataset d WHERE d.id = dataset AND purged_at IS NULL FOR UPDATE;
  IF name IS NULL THEN
    RAISE EXCEPTION 'no dataset %', dataset USING ERRCODE = 'no_data_found';
  END IF;
  removed := jsonb_build_object(
    'parcels', (SELECT count(*) FROM cbm.parcel WHERE dataset_id = dataset),
    'geometries', (SELECT count(*) FROM cbm.parcel_geometry WHERE dataset_id = dataset),
    'signatures', (SELECT count(*) FROM cbm.signature WHERE dataset_id = dataset));
  EXECUTE format('DROP TABLE IF EXISTS cbm.%I', format('signature_d%s', dataset));
  DELETE FROM cbm.work_item WHERE dataset_id = dataset;
  DELETE FROM cbm.monitorability WHERE dataset_id = dataset;
  DELETE FROM cbm.plan WHERE dataset_id = dataset;
  DELETE FROM cbm.parcel WHERE dataset_id = dataset;
  DELETE FROM cbm.parcel_geometry WHERE dataset_id = dataset;
  DELETE FROM cbm.parcel_set WHERE dataset_id = dataset;
  DELETE FROM cbm.dataset_grant WHERE dataset_id = dataset;
  UPDATE cbm.dataset d SET purged_at = now(), settings = '{}' WHERE d.id = dataset;
  INSERT INTO cbm.audit (who, action, detail)
  VALUES (session_user, 'dataset purge', removed || jsonb_build_object('dataset', name));
  RETURN removed;
END
$$;
REVOKE ALL ON FUNCTION purge_dataset FROM PUBLIC;
GRANT EXECUTE ON FUNCTION purge_dataset TO cbm_ingest;

SELECT protect_by_dataset('work_item', 'dataset_id');
SELECT protect_by_dataset('run', 'dataset_id');
SELECT protect_by_dataset('signature', 'dataset_id');
GRANT USAGE ON SEQUENCE lease_token TO cbm_ingest;
GRANT INSERT, UPDATE ON work_item TO cbm_ingest;
GRANT INSERT ON run, signature TO cbm_ingest;
