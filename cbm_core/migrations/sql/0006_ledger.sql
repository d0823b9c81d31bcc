-- cbm: expand
-- The ledger for a million items; extraction again (full) and of gaps (fill); held scenes overruled.

-- All at once: while indexes are made between two locks, writers would end in deadlocks.
LOCK TABLE dataset IN SHARE ROW EXCLUSIVE MODE;
LOCK TABLE scene, work_item, run IN ACCESS EXCLUSIVE MODE;

ALTER TABLE scene ADD overruled text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN scene.overruled IS 'Reasons for which the scene is not held again: an operator has released it.';

ALTER TABLE work_item
  ADD scope text NOT NULL DEFAULT 'delta' CHECK (scope IN ('delta', 'fill', 'full')),
  ADD next_scope text CHECK (next_scope IN ('fill', 'full')),
  ADD reason text,
  ADD CHECK (next_scope IS NULL OR state = 'running');
COMMENT ON COLUMN work_item.scope IS 'What an open item is to do: delta (geometries of newer parcel sets), fill (geometries without a row as well), full (everything again). Each comprises the one before; so does their order as texts.';
COMMENT ON COLUMN work_item.next_scope IS 'What was asked for while the item was running: it is pending again once it is done.';
COMMENT ON COLUMN work_item.reason IS 'Why a fill or full extraction was asked for.';

-- A claim takes the first entry of one of these, whatever the backlog; the last holds leases only.
CREATE INDEX work_item_next ON work_item (attempts, scene_id, product_id) WHERE state = 'pending';
CREATE INDEX work_item_next_of_dataset ON work_item (dataset_id, attempts, scene_id, product_id) WHERE state = 'pending';
CREATE INDEX work_item_running ON work_item (scene_id) WHERE state = 'running';
DROP INDEX work_item_open;
-- Claims leave dead entries at the very place where the next claim looks.
ALTER TABLE work_item SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

ALTER TABLE run
  ADD geometry_ids integer[],
  ADD replaced integer,
  DROP CONSTRAINT run_scope_check,
  ADD CONSTRAINT run_scope_check CHECK (scope IN ('full', 'delta', 'fill')),
  ADD CHECK ((scope = 'fill') = (geometry_ids IS NOT NULL));
COMMENT ON COLUMN run.geometry_ids IS 'The geometries a fill wrote, rising; other runs wrote those their parcel sets introduced, less those of later fills.';
COMMENT ON COLUMN run.replaced IS 'Rows that a full run over stored ones archived as theirs differed; 0: it came out the same. NULL: nothing was stored before.';

CREATE TABLE signature_archived (
  LIKE signature,
  run_id bigint NOT NULL REFERENCES run,
  replaced_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE signature_archived IS 'Rows of signature as they were before the run run_id replaced them.';
CREATE INDEX signature_archived_run ON signature_archived (run_id, geometry_id);
CREATE INDEX signature_archived_dataset ON signature_archived (dataset_id);
SELECT protect_by_dataset('signature_archived', 'dataset_id');

-- The one way to take rows away: a whole slice, archived, by the worker that holds the item's lease
-- for a full run, in the transaction that writes the new rows.
CREATE FUNCTION archive_signature_slice(item bigint, held_token bigint, by_run bigint) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, cbm, public, pg_temp AS $$
DECLARE
  held cbm.work_item;
  seen timestamptz;
  archived integer;
BEGIN
  SELECT * INTO held FROM cbm.work_item w
  WHERE w.id = item AND w.token = held_token AND w.state = 'running' AND w.scope = 'full' FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'item % is not running in full under token %', item, held_token USING ERRCODE = 'no_data_found';
  END IF;
  IF NOT EXISTS (
    SELECT FROM cbm.run r WHERE r.id = by_run AND r.token = held_token AND r.scene_id = held.scene_id
      AND r.dataset_id = held.dataset_id AND r.product_id = held.product_id
  ) THEN
    RAISE EXCEPTION 'run % is not of item %', by_run, item USING ERRCODE = 'no_data_found';
  END IF;
  SELECT s.obstime INTO seen FROM cbm.scene s WHERE s.id = held.scene_id;
  -- Planned with the values, so that only one partition is looked at.
  EXECUTE 'WITH gone AS (
      DELETE FROM cbm.signature WHERE dataset_id = $1 AND obstime = $2 AND scene_id = $3 AND product_id = $4
      RETURNING *)
    INSERT INTO cbm.signature_archived SELECT gone.*, $5 FROM gone'
  USING held.dataset_id, seen, held.scene_id, held.product_id, by_run;
  GET DIAGNOSTICS archived = ROW_COUNT;
  INSERT INTO cbm.audit (who, action, detail)
  VALUES (session_user, 'signatures replaced', jsonb_build_object('dataset_id', held.dataset_id,
    'scene_id', held.scene_id, 'product_id', held.product_id, 'run_id', by_run, 'archived', archived));
  RETURN archived;
END
$$;
REVOKE ALL ON FUNCTION archive_signature_slice FROM PUBLIC;
GRANT EXECUTE ON FUNCTION archive_signature_slice TO cbm_ingest;

CREATE FUNCTION forget_archived() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, cbm, pg_temp AS $$
BEGIN
  DELETE FROM cbm.signature_archived WHERE dataset_id = NEW.id;
  RETURN NULL;
END
$$;
CREATE TRIGGER dataset_purged AFTER UPDATE OF purged_at ON dataset
  FOR EACH ROW WHEN (OLD.purged_at IS NULL AND NEW.purged_at IS NOT NULL) EXECUTE FUNCTION forget_archived();

-- Under `tiles: home` a scene leaves geometries to a better tile of its datatake. When that one goes
-- out of use, the others fill the gap, unless another product of the same tile takes its place.
-- Decided at commit, when it is known which scenes are in use.
CREATE FUNCTION fill_for_scene() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, cbm, public, pg_temp AS $$
DECLARE
  gap geometry;
BEGIN
  SELECT ST_Difference(s.footprint, coalesce(ST_Union(o.footprint), 'SRID=4326;POLYGON EMPTY'::geometry))
  INTO gap
  FROM cbm.scene s
  LEFT JOIN cbm.scene o ON o.card = s.card AND o.platform = s.platform AND o.datatake_start = s.datatake_start
    AND o.tile = s.tile AND o.tile <> '' AND o.state = 'active'
  WHERE s.id = NEW.id AND s.state <> 'active'
  GROUP BY s.footprint;
  IF gap IS NULL OR ST_IsEmpty(gap) THEN
    RETURN NULL;
  END IF;
  UPDATE cbm.work_item w SET
    state = CASE w.state WHEN 'done' THEN 'pending' ELSE w.state END,
    attempts = CASE w.state WHEN 'done' THEN 0 ELSE w.attempts END,
    scope = CASE w.state WHEN 'running' THEN w.scope ELSE greatest(w.scope, 'fill') END,
    next_scope = CASE w.state WHEN 'running' THEN greatest(w.next_scope, 'fill') END,
    reason = coalesce(w.reason, format('%s %s is not in use any more', NEW.reference, NEW.part))
  FROM cbm.scene n, cbm.product p
  WHERE n.card = NEW.card AND n.platform = NEW.platform AND n.datatake_start = NEW.datatake_start
    AND n.id <> NEW.id AND ST_Intersects(n.footprint, gap)
    AND w.scene_id = n.id AND (w.parcel_set_id > 0 OR w.state = 'running')
    AND p.id = w.product_id AND p.definition ->> 'tiles' = 'home'
    AND EXISTS (
      SELECT FROM cbm.parcel_geometry g
      WHERE g.dataset_id = w.dataset_id AND g.retired_at IS NULL AND g.geom && n.footprint
        AND ST_Intersects(gap, g.geom) AND ST_Covers(NEW.footprint, g.geom)
        AND NOT EXISTS (
          SELECT FROM cbm.signature s
          WHERE s.dataset_id = g.dataset_id AND s.obstime = n.obstime AND s.geometry_id = g.id
            AND s.scene_id = n.id AND s.product_id = w.product_id)
    );
  RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER scene_left AFTER UPDATE OF state ON scene DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (OLD.state = 'active' AND NEW.state <> 'active') EXECUTE FUNCTION fill_for_scene();

CREATE VIEW signature_latest WITH (security_invoker = true) AS
SELECT l.*
FROM cbm.signature_long l
WHERE NOT EXISTS (
  SELECT FROM cbm.product n
  WHERE n.name = l.product AND n.revision > l.revision
    AND EXISTS (SELECT FROM cbm.work_item w WHERE w.dataset_id = l.dataset_id AND w.product_id = n.id)
);
COMMENT ON VIEW signature_latest IS 'signature_long with one revision per product name: the newest the dataset is extracted with. It changes for the whole dataset at once: revisions are never mixed.';
GRANT SELECT ON signature_latest TO cbm_ingest, cbm_api, cbm_read;

CREATE OR REPLACE FUNCTION parcel_coverage(of_aoi text, of_year integer, of_layer text, of_pid text)
RETURNS TABLE (product text, revision smallint, obstime timestamptz, reference text, part text, tile text, code text)
LANGUAGE sql STABLE SET search_path = pg_catalog, cbm, public, pg_temp AS $$
  SELECT pr.name, pr.revision, sc.obstime, sc.reference, sc.part, sc.tile,
    CASE
      WHEN sc.state <> 'active' THEN sc.state
      WHEN s.px_clear = 0 THEN 'clouded'
      WHEN s.px_clear > 0 THEN 'ok'
      -- Open or failed only for parcels that came after what the item has done, or in a gap.
      WHEN (w.parcel_set_id < g.parcel_set_id OR w.scope <> 'delta') AND w.state = 'failed' THEN 'failed'
      WHEN w.parcel_set_id < g.parcel_set_id OR w.scope <> 'delta' OR w.next_scope IS NOT NULL THEN 'not_yet'
      WHEN NOT EXISTS (
        SELECT FROM cbm.monitorability m
        WHERE m.geometry_id = g.id AND m.dataset_id = g.dataset_id AND m.pixels_planned > 0
          AND m.buffer_m = coalesce((pr.definition ->> 'buffer_m')::real, 0)
      ) THEN 'no_pixel'
      ELSE 'no_image'
    END
  FROM cbm.dataset d
  JOIN cbm.parcel p ON p.dataset_id = d.id AND p.layer = of_layer AND p.pid = of_pid AND p.known_to = 'infinity'
  JOIN cbm.parcel_geometry g ON g.id = p.geometry_id
  JOIN cbm.work_item w ON w.dataset_id = d.id
  JOIN cbm.scene sc ON sc.id = w.scene_id AND sc.footprint && g.geom
    AND sc.obstime >= p.valid_from::timestamp AT TIME ZONE 'UTC'
    AND sc.obstime < p.valid_to::timestamp AT TIME ZONE 'UTC'
  JOIN cbm.product pr ON pr.id = w.product_id
  LEFT JOIN cbm.signature s ON s.dataset_id = d.id AND s.geometry_id = g.id AND s.scene_id = sc.id
    AND s.product_id = pr.id AND s.obstime = sc.obstime
  WHERE d.aoi = of_aoi AND d.year = of_year AND d.purged_at IS NULL
  ORDER BY sc.obstime, pr.name, pr.revision, sc.tile
$$;
