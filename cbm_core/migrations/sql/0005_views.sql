-- cbm: expand
-- What analysts read: one row per (parcel, scene, variable) with the eight statistics.
-- Views run with the reader's own rights, so that row-level security holds through them.

CREATE FUNCTION stat(stats real[], variable integer, which integer) RETURNS real
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT nullif(stats[8 * (variable - 1) + which], 'NaN'::real)
$$;
COMMENT ON FUNCTION stat IS 'The which-th (1..8: count mean std min max p25 p50 p75) statistic of the variable-th variable, NULL for none.';

CREATE FUNCTION class_histogram(class_counts bytea) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT jsonb_object_agg(
    get_byte(class_counts, 4 * i)::text,
    get_byte(class_counts, 4 * i + 1) * 65536 + get_byte(class_counts, 4 * i + 2) * 256
      + get_byte(class_counts, 4 * i + 3))
  FROM generate_series(0, length(class_counts) / 4 - 1) AS i
$$;
COMMENT ON FUNCTION class_histogram IS 'signature.class_counts as {"class": pixels}; NULL where there are none.';

CREATE VIEW signature_all WITH (security_invoker = true) AS
SELECT
  d.aoi, d.year, p.layer, p.pid, p.crop_code, p.crop_name, p.valid_from, p.valid_to,
  s.obstime, sc.reference, sc.part, sc.tile, sc.platform, sc.state AS scene_state,
  pr.name AS product, pr.revision, b.band,
  coalesce(cbm.stat(s.stats, b.position::integer, 1), 0)::integer AS count,
  cbm.stat(s.stats, b.position::integer, 2) AS mean,
  cbm.stat(s.stats, b.position::integer, 3) AS std,
  cbm.stat(s.stats, b.position::integer, 4) AS min,
  cbm.stat(s.stats, b.position::integer, 6) AS p25,
  cbm.stat(s.stats, b.position::integer, 7) AS p50,
  cbm.stat(s.stats, b.position::integer, 8) AS p75,
  cbm.stat(s.stats, b.position::integer, 5) AS max,
  s.px_imaged, s.px_clear, cbm.class_histogram(s.class_counts) AS classes,
  s.dataset_id, s.geometry_id, s.scene_id, s.product_id, s.tile_rank
FROM cbm.signature s
JOIN cbm.dataset d ON d.id = s.dataset_id
JOIN cbm.parcel p ON p.geometry_id = s.geometry_id AND p.dataset_id = s.dataset_id
  AND p.known_to = 'infinity'
JOIN cbm.scene sc ON sc.id = s.scene_id
JOIN cbm.product pr ON pr.id = s.product_id
CROSS JOIN LATERAL unnest(pr.variables) WITH ORDINALITY AS b (band, position);
COMMENT ON VIEW signature_all IS 'Every stored row of the parcels as known now, superseded scenes and overlapping tiles included. A geometry that a parcel has in several periods (valid_from to valid_to, exclusive) stands once for each.';

-- The anti-join asks, per row, for a better row of the same parcel and datatake; written so that
-- conditions on parcel and obstime reach the partitions. Days are UTC, whatever the reader's zone.
CREATE VIEW signature_long WITH (security_invoker = true) AS
SELECT a.*
FROM cbm.signature_all a
JOIN cbm.scene sc ON sc.id = a.scene_id
WHERE sc.state = 'active'
  AND a.obstime >= a.valid_from::timestamp AT TIME ZONE 'UTC'
  AND a.obstime < a.valid_to::timestamp AT TIME ZONE 'UTC'
  AND NOT EXISTS (
    SELECT FROM cbm.signature o
    JOIN cbm.scene os ON os.id = o.scene_id
    WHERE o.dataset_id = a.dataset_id AND o.geometry_id = a.geometry_id AND o.product_id = a.product_id
      AND o.scene_id <> a.scene_id
      AND o.obstime BETWEEN a.obstime - interval '1 hour' AND a.obstime + interval '1 hour'
      AND os.state = 'active' AND os.card = sc.card AND os.platform = sc.platform
      AND os.datatake_start = sc.datatake_start
      AND (o.tile_rank, os.tile, -o.px_imaged, o.scene_id) < (a.tile_rank, sc.tile, -a.px_imaged, a.scene_id)
  );
COMMENT ON VIEW signature_long IS 'The one preferred row per (parcel, datatake, product): valid parcels, active scenes, best tile.';

GRANT SELECT ON signature_all, signature_long TO cbm_ingest, cbm_api, cbm_read;

CREATE FUNCTION parcel_coverage(of_aoi text, of_year integer, of_layer text, of_pid text)
RETURNS TABLE (product text, revision smallint, obstime timestamptz, reference text, part text, tile text, code text)
LANGUAGE sql STABLE SET search_path = pg_catalog, cbm, public, pg_temp AS $$
  SELECT pr.name, pr.revision, sc.obstime, sc.reference, sc.part, sc.tile,
    CASE
      WHEN sc.state <> 'active' THEN sc.state
      WHEN s.px_clear = 0 THEN 'clouded'
      WHEN s.px_clear > 0 THEN 'ok'
      -- Open or failed only for parcels that came after what the item has done.
      WHEN w.parcel_set_id < g.parcel_set_id AND w.state = 'failed' THEN 'failed'
      WHEN w.parcel_set_id < g.parcel_set_id THEN 'not_yet'
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
COMMENT ON FUNCTION parcel_coverage IS 'Why a parcel has a value on a date or not: ok, clouded, no_image, no_pixel, not_yet, failed, held, superseded, retracted.';
REVOKE ALL ON FUNCTION parcel_coverage FROM PUBLIC;
GRANT EXECUTE ON FUNCTION parcel_coverage TO cbm_ingest, cbm_api, cbm_read;
