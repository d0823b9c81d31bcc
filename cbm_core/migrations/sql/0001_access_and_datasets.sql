-- cbm: expand
-- Who may read what, and the unit of that permission: the dataset (an AOI and a declaration year).

CREATE TABLE dataset (
  id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  aoi text NOT NULL CHECK (aoi ~ '^[a-z][a-z0-9_]{0,31}$'),
  year smallint NOT NULL CHECK (year BETWEEN 1980 AND 2200),
  imagery_start date NOT NULL,
  imagery_end date NOT NULL,
  settings jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  purged_at timestamptz,
  CHECK (imagery_start <= imagery_end)
);
COMMENT ON TABLE dataset IS 'An AOI and declaration year; the year of imagery is imagery_start to imagery_end (inclusive).';
-- A purged dataset keeps its row, so that evidence still names it; its name is free again.
CREATE UNIQUE INDEX dataset_name ON dataset (aoi, year) WHERE purged_at IS NULL;

CREATE TABLE dataset_grant (
  dataset_id smallint NOT NULL REFERENCES dataset,
  via text NOT NULL CHECK (via IN ('role', 'api')),
  grantee text NOT NULL,
  granted_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (dataset_id, via, grantee)
);
COMMENT ON TABLE dataset_grant IS 'Who reads a dataset: a database role (via role) or a user of the API (via api).';

CREATE TABLE audit (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT now(),
  who text NOT NULL DEFAULT session_user,
  action text NOT NULL,
  detail jsonb NOT NULL DEFAULT '{}'
);

CREATE FUNCTION granted_datasets(how text, grantee_name text) RETURNS smallint[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, cbm, pg_temp AS $$
  SELECT coalesce(array_agg(g.dataset_id), '{}')
  FROM cbm.dataset_grant g
  WHERE g.via = how
    AND CASE how
          WHEN 'api' THEN g.grantee = grantee_name
          ELSE EXISTS (
            SELECT FROM pg_roles r WHERE r.rolname = g.grantee AND pg_has_role(grantee_name, r.oid, 'MEMBER')
          )
        END
$$;
COMMENT ON FUNCTION granted_datasets IS 'Datasets a database role (itself or by membership) or an API user may read.';
REVOKE ALL ON FUNCTION granted_datasets FROM PUBLIC;
GRANT EXECUTE ON FUNCTION granted_datasets TO cbm_ingest, cbm_api, cbm_read;

-- Row-level security in one place: a table with a dataset_id is opened to its readers by this.
-- The sub-select makes the planner look grants up once per statement, not once per row.
CREATE FUNCTION protect_by_dataset(target regclass, dataset_column name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, cbm, pg_temp AS $$
BEGIN
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
  EXECUTE format('CREATE POLICY ingest_all ON %s TO cbm_ingest USING (true) WITH CHECK (true)', target);
  EXECUTE format(
    'CREATE POLICY analysts_by_grant ON %s FOR SELECT TO cbm_read
       USING (%I = ANY ((SELECT cbm.granted_datasets(''role'', current_user::text))::smallint[]))',
    target, dataset_column);
  EXECUTE format(
    'CREATE POLICY api_by_grant ON %s FOR SELECT TO cbm_api
       USING (%I = ANY ((SELECT cbm.granted_datasets(''api'', current_setting(''cbm.api_user'', true)))::smallint[]))',
    target, dataset_column);
  EXECUTE format('GRANT SELECT ON %s TO cbm_ingest, cbm_api, cbm_read', target);
END
$$;
REVOKE ALL ON FUNCTION protect_by_dataset FROM PUBLIC;

SELECT protect_by_dataset('dataset', 'id');
GRANT INSERT, UPDATE ON dataset TO cbm_ingest;
GRANT SELECT, INSERT, DELETE ON dataset_grant TO cbm_ingest;
GRANT INSERT ON audit TO cbm_ingest, cbm_api;
