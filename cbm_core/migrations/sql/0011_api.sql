-- cbm: expand
-- Who may ask the API, and what it must remember of them. Grants stand in dataset_grant (via api).
-- Indexes of tables that may be large follow in 0012, where nobody waits for them.

CREATE TABLE api_user (
  name text PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$'),
  password_hash text,
  created_at timestamptz NOT NULL DEFAULT now(),
  disabled_at timestamptz
);
COMMENT ON TABLE api_user IS 'Users of the API; password_hash is argon2id in PHC format, NULL for users who only have tokens.';

-- A disabled user is granted nothing, whichever way a request came to be made on the user's behalf.
CREATE OR REPLACE FUNCTION granted_datasets(how text, grantee_name text) RETURNS smallint[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, cbm, pg_temp AS $$
  SELECT coalesce(array_agg(g.dataset_id), '{}')
  FROM cbm.dataset_grant g
  WHERE g.via = how
    AND CASE how
          WHEN 'api' THEN g.grantee = grantee_name AND NOT EXISTS (
            SELECT FROM cbm.api_user u WHERE u.name = grantee_name AND u.disabled_at IS NOT NULL
          )
          ELSE EXISTS (
            SELECT FROM pg_roles r WHERE r.rolname = g.grantee AND pg_has_role(grantee_name, r.oid, 'MEMBER')
          )
        END
$$;

CREATE TABLE api_token (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  user_name text NOT NULL REFERENCES api_user ON DELETE CASCADE,
  label text NOT NULL,
  hash bytea NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  revoked_at timestamptz
);
-- A revoked token stays, so that the trail still names it; its label is free again.
CREATE UNIQUE INDEX api_token_label ON api_token (user_name, label) WHERE revoked_at IS NULL;
COMMENT ON TABLE api_token IS 'Bearer tokens; hash is the sha256 of the token, which holds 32 random bytes.';

CREATE TABLE api_lockout (
  user_name text NOT NULL,
  address inet NOT NULL,
  failures integer NOT NULL,
  last_failure timestamptz NOT NULL DEFAULT now(),
  locked_until timestamptz NOT NULL DEFAULT '-infinity',
  PRIMARY KEY (user_name, address)
);
CREATE INDEX api_lockout_last_failure ON api_lockout (last_failure);
COMMENT ON TABLE api_lockout IS 'Failed logins by user and client address (IPv6: network of 64 bits); user_name '''' counts an address''s, whoever it named.';

GRANT SELECT ON api_user, api_token TO cbm_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON api_lockout TO cbm_api;

-- What signed addresses of images are signed with, by all processes of all hosts alike.
CREATE TABLE api_secret (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  secret text NOT NULL
);
COMMENT ON TABLE api_secret IS 'One row: 244 random bits, from two UUIDs of version 4.';
INSERT INTO api_secret (secret) VALUES (gen_random_uuid()::text || gen_random_uuid()::text);
GRANT SELECT ON api_secret TO cbm_api;

-- The API keeps its log of reads short by itself; it cannot take away what is younger than a month.
CREATE FUNCTION forget_reads(days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, cbm, pg_temp AS $$
DECLARE
  forgotten integer;
BEGIN
  IF days < 30 THEN
    RAISE EXCEPTION 'the log of reads is kept for 30 days at least' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  DELETE FROM cbm.audit WHERE id = ANY (ARRAY(
    SELECT id FROM cbm.audit WHERE action = 'read' AND at < now() - make_interval(days => days)
    ORDER BY at LIMIT 5000 FOR UPDATE SKIP LOCKED));
  GET DIAGNOSTICS forgotten = ROW_COUNT;
  RETURN forgotten;
END
$$;
COMMENT ON FUNCTION forget_reads IS 'Deletes up to 5000 reads that were logged longer ago, the oldest first, and says how many.';
REVOKE ALL ON FUNCTION forget_reads FROM PUBLIC;
GRANT EXECUTE ON FUNCTION forget_reads TO cbm_api;

-- Where parcels are, for readers. Row-level security must look at every row of a table before a
-- function that could tell about it, and PostGIS's operators count as such: no index on geometries
-- would serve. Here the grant is asked once instead, and the index answers.
CREATE FUNCTION geometries_in(of_dataset smallint, area geometry, after integer DEFAULT 0, most integer DEFAULT NULL)
RETURNS TABLE (id integer)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, cbm, public, pg_temp AS $$
BEGIN
  IF of_dataset = ANY (cbm.granted_datasets('api', current_setting('cbm.api_user', true))) THEN
    -- Planned with the values: an area may be a field or a country.
    RETURN QUERY EXECUTE
      'SELECT g.id FROM cbm.parcel_geometry g
       WHERE g.dataset_id = $1 AND g.geom && $2 AND g.id > $3 ORDER BY g.id LIMIT $4'
    USING of_dataset, area, after, most;
  END IF;
END
$$;
COMMENT ON FUNCTION geometries_in IS 'Geometries of a dataset, if it is granted to the user of the API, whose boxes meet that of an area (EPSG:4326): ids, rising, above `after`, at most `most`.';
REVOKE ALL ON FUNCTION geometries_in FROM PUBLIC;
GRANT EXECUTE ON FUNCTION geometries_in TO cbm_api;

-- For the same reason: the policy keeps readers from the index on ids as numbers.
CREATE FUNCTION ids_are_numbers(of_dataset smallint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, cbm, pg_temp AS $$
  SELECT NOT EXISTS (SELECT FROM cbm.parcel
                     WHERE dataset_id = of_dataset AND known_to = 'infinity' AND cbm.whole_number(pid) IS NULL)
$$;
COMMENT ON FUNCTION ids_are_numbers IS 'Whether clients that know parcels by numbers can have them: all ids of a dataset are whole numbers.';
REVOKE ALL ON FUNCTION ids_are_numbers FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ids_are_numbers TO cbm_api;

-- Maps of a country: up to zoom 11 a tile shows counts of parcels in cells, made at import: 32 x 32,
-- at zoom 11 16 x 16 (cells of zoom 15, 800 m in middle Europe), so that an import need not make more.
CREATE TABLE grid_tile (
  dataset_id smallint NOT NULL REFERENCES dataset,
  layer text NOT NULL,
  z smallint NOT NULL,
  x integer NOT NULL,
  y integer NOT NULL,
  mvt bytea NOT NULL,
  PRIMARY KEY (dataset_id, layer, z, x, y)
);
COMMENT ON TABLE grid_tile IS 'Mapbox vector tiles (WebMercatorQuad, zoom 0 to 11) of the parcels as known now; layer grid: parcels, area_ha, and crop_code and crop_name of the crop with the largest area.';
SELECT protect_by_dataset('grid_tile', 'dataset_id');

-- A parcel counts where the middle of its box is. https://docs.ogc.org/is/17-083r4 (annex D.2).
-- Crops are numbered on the way: numbers are quicker to compare and to sum up by than names.
CREATE FUNCTION fill_grid_tiles(of_dataset smallint, of_layer text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, cbm, public, pg_temp AS $$
DECLARE
  codes text[];
  names text[];
  cells integer;
  down integer;
BEGIN
  -- One at a time, each of which sees the other's tiles; and either before a purge or after it.
  PERFORM FROM cbm.dataset WHERE id = of_dataset FOR KEY SHARE;
  PERFORM pg_advisory_xact_lock(hashtext('cbm.grid_tile'), of_dataset);
  DELETE FROM cbm.grid_tile WHERE dataset_id = of_dataset AND layer = of_layer;
  SELECT array_agg(crop_code), array_agg(crop_name) INTO codes, names FROM (
    SELECT crop_code, min(crop_name) AS crop_name FROM cbm.parcel
    WHERE dataset_id = of_dataset AND layer = of_layer AND known_to = 'infinity' AND valid_to = 'infinity'
    GROUP BY crop_code ORDER BY crop_code
  ) crops;
  CREATE TEMPORARY TABLE grid_cell ON COMMIT DROP AS
  SELECT 15 AS z, least(greatest(floor((lon + 180) / 360 * 32768), 0), 32767)::integer AS x,
    least(greatest(floor((1 - asinh(tand(lat)) / pi()) / 2 * 32768), 0), 32767)::integer AS y,
    crop::integer, count(*)::integer AS parcels, sum(area_m2) AS area
  FROM (
    SELECT (ST_XMin(g.geom) + ST_XMax(g.geom)) / 2 AS lon,
      least(greatest((ST_YMin(g.geom) + ST_YMax(g.geom)) / 2, -85.06), 85.06) AS lat,
      c.crop, g.area_m2
    FROM cbm.parcel p
    JOIN cbm.parcel_geometry g ON g.id = p.geometry_id AND g.dataset_id = of_dataset
    JOIN (SELECT coalesce(code, '') AS code, code IS NULL AS none, crop
          FROM unnest(codes) WITH ORDINALITY AS t (code, crop)) c
      ON c.code = coalesce(p.crop_code, '') AND c.none = (p.crop_code IS NULL)
    WHERE p.dataset_id = of_dataset AND p.layer = of_layer
      AND p.known_to = 'infinity' AND p.valid_to = 'infinity'
  ) parcels
  GROUP BY 1, 2, 3, 4;
  FOR zoom IN REVERSE 11..0 LOOP
    cells := least(zoom + 5, 15);
    down := cells - zoom;
    INSERT INTO cbm.grid_tile
    SELECT of_dataset, of_layer, zoom, c.x >> down, c.y >> down, ST_AsMVT(feature, 'grid', 4096, 'geom')
    FROM (
      -- The number of the crop stands below its area: the largest of both is that of the largest.
      SELECT x, y, sum(parcels)::integer AS parcels, round((sum(area) / 10000)::numeric, 2)::float AS area_ha,
        (max((area::bigint << 20) + crop) & 1048575)::integer AS crop
      FROM pg_temp.grid_cell WHERE z = cells GROUP BY x, y
    ) c
    CROSS JOIN LATERAL (
      SELECT c.parcels, c.area_ha, codes[c.crop] AS crop_code, names[c.crop] AS crop_name, ST_AsMVTGeom(
        ST_TileEnvelope(cells, c.x, c.y), ST_TileEnvelope(zoom, c.x >> down, c.y >> down), 4096, 0, false) AS geom
    ) feature
    GROUP BY c.x >> down, c.y >> down;
    IF zoom < 11 THEN
      INSERT INTO pg_temp.grid_cell
      SELECT cells - 1, x >> 1, y >> 1, crop, sum(parcels), sum(area)
      FROM pg_temp.grid_cell WHERE z = cells GROUP BY 2, 3, 4;
    END IF;
  END LOOP;
  DROP TABLE pg_temp.grid_cell;
END
$$;
REVOKE ALL ON FUNCTION fill_grid_tiles FROM PUBLIC;

-- Whatever changes parcels records a parcel set; at commit all of it is there.
CREATE FUNCTION parcels_imported() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, cbm, public, pg_temp AS $$
BEGIN
  PERFORM cbm.fill_grid_tiles(NEW.dataset_id, NEW.layer);
  RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER parcels_imported AFTER INSERT ON parcel_set DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.added + NEW.changed + NEW.removed > 0) EXECUTE FUNCTION parcels_imported();

CREATE FUNCTION forget_grid_tiles() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, cbm, pg_temp AS $$
BEGIN
  DELETE FROM cbm.grid_tile WHERE dataset_id = NEW.id;
  RETURN NULL;
END
$$;
CREATE TRIGGER dataset_purged_tiles AFTER UPDATE OF purged_at ON dataset
  FOR EACH ROW WHEN (OLD.purged_at IS NULL AND NEW.purged_at IS NOT NULL) EXECUTE FUNCTION forget_grid_tiles();
REVOKE ALL ON FUNCTION parcels_imported, forget_grid_tiles FROM PUBLIC;

-- Requests too large to be answered at once. Users see their own, of datasets granted to them; so does
-- the process that works on them, on behalf of the user.
CREATE TABLE api_job (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_name text NOT NULL REFERENCES api_user ON DELETE CASCADE,
  dataset_id smallint NOT NULL REFERENCES dataset,
  collection text NOT NULL,
  request jsonb NOT NULL,
  state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'running', 'done', 'failed')),
  attempts smallint NOT NULL DEFAULT 0,
  token bigint,
  lease_until timestamptz,
  parcels integer,
  parcels_done integer NOT NULL DEFAULT 0,
  rows bigint NOT NULL DEFAULT 0,
  bytes bigint,
  error_code text,
  error text,
  created_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz,
  finished_at timestamptz,
  expires_at timestamptz,
  CHECK ((state = 'running') = (token IS NOT NULL)),
  CHECK ((state = 'running') = (lease_until IS NOT NULL))
);
COMMENT ON TABLE api_job IS 'Signatures asked for in bulk, to be written to a file named after the job; see cbm_api/jobs.';
CREATE INDEX api_job_user ON api_job (user_name, created_at);
ALTER TABLE api_job ENABLE ROW LEVEL SECURITY;
CREATE POLICY api_own ON api_job TO cbm_api
  USING (user_name = current_setting('cbm.api_user', true)
    AND dataset_id = ANY ((SELECT cbm.granted_datasets('api', current_setting('cbm.api_user', true)))::smallint[]));
GRANT SELECT, INSERT, UPDATE, DELETE ON api_job TO cbm_api;
GRANT USAGE ON SEQUENCE lease_token TO cbm_api;

-- The next job in line, for whoever works on jobs: leased, and tried three times at most.
CREATE FUNCTION claim_api_job(lease interval) RETURNS TABLE (job uuid, on_behalf_of text, held_token bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, cbm, pg_temp AS $$
  UPDATE cbm.api_job SET state = 'failed', token = NULL, lease_until = NULL, finished_at = now(),
    expires_at = now() + interval '7 days', error_code = 'worker_lost',
    error = 'It could not be finished in three attempts.'
  WHERE state = 'running' AND lease_until < now() AND attempts >= 3;
  UPDATE cbm.api_job j SET state = 'running', token = nextval('cbm.lease_token'), lease_until = now() + lease,
    attempts = attempts + 1, started_at = now(), parcels_done = 0, rows = 0
  WHERE j.id = (
    SELECT n.id FROM cbm.api_job n
    WHERE (n.state = 'pending' OR (n.state = 'running' AND n.lease_until < now()))
      AND n.dataset_id = ANY (cbm.granted_datasets('api', n.user_name))
    ORDER BY n.created_at LIMIT 1 FOR UPDATE OF n SKIP LOCKED)
  RETURNING id, user_name, token
$$;
REVOKE ALL ON FUNCTION claim_api_job FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_api_job TO cbm_api;

CREATE FUNCTION living_api_jobs() RETURNS SETOF uuid
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, cbm, pg_temp AS $$
  DELETE FROM cbm.api_job j
  WHERE expires_at < now() OR NOT dataset_id = ANY (cbm.granted_datasets('api', j.user_name));
  SELECT id FROM cbm.api_job
$$;
COMMENT ON FUNCTION living_api_jobs IS 'Forgets jobs that have expired, or whose users may not read the dataset any more; files of others than it returns can go.';
REVOKE ALL ON FUNCTION living_api_jobs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION living_api_jobs TO cbm_api;

CREATE FUNCTION forget_api_jobs() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, cbm, pg_temp AS $$
BEGIN
  DELETE FROM cbm.api_job WHERE dataset_id = NEW.id;
  RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION forget_api_jobs FROM PUBLIC;
CREATE TRIGGER dataset_purged_jobs AFTER UPDATE OF purged_at ON dataset
  FOR EACH ROW WHEN (OLD.purged_at IS NULL AND NEW.purged_at IS NOT NULL) EXECUTE FUNCTION forget_api_jobs();
