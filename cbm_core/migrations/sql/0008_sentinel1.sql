-- cbm: expand
-- What tells the scenes of Sentinel-1 apart: orbit, angle, and the pair of images of a coherence.

ALTER TABLE scene
  ADD absolute_orbit integer,
  ADD incidence_angle real,
  ADD reference_time timestamptz,
  ADD temporal_baseline_days smallint GENERATED ALWAYS AS
    (round(extract(epoch FROM obstime - reference_time) / 86400)::smallint) STORED,
  ADD perpendicular_baseline real;
COMMENT ON COLUMN scene.incidence_angle IS 'Mean angle of incidence over the scene, in degrees.';
COMMENT ON COLUMN scene.reference_time IS 'Of coherence: when the earlier image was taken; obstime is that of the later one.';
COMMENT ON COLUMN scene.perpendicular_baseline IS 'Of coherence: distance of the two orbits across the line of sight, in metres.';

-- The names that clients of the predecessor ask for. cbm_core/bands.py says the same.
CREATE FUNCTION legacy_band(card text, band text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE
    WHEN band NOT IN ('VV', 'VH') THEN band
    WHEN card = 'bs' THEN band || 'b'
    WHEN card IN ('c6', 'c12') THEN band || 'c'
    ELSE band
  END
$$;
COMMENT ON FUNCTION legacy_band IS 'VV of card bs is VVb, of coherence VVc; VH likewise; all others keep their name.';

-- Of one pass of a platform over a parcel one row is preferred. Sentinel-1 cuts a pass into slices,
-- each with a start of its own, so that the orbit tells the pass there. A better row is asked for by a
-- sub-select rather than NOT EXISTS: it is then asked once per stored row, not once per band.
CREATE OR REPLACE VIEW signature_long WITH (security_invoker = true) AS
SELECT a.*
FROM cbm.signature_all a
JOIN cbm.scene sc ON sc.id = a.scene_id
WHERE sc.state = 'active'
  AND a.obstime >= a.valid_from::timestamp AT TIME ZONE 'UTC'
  AND a.obstime < a.valid_to::timestamp AT TIME ZONE 'UTC'
  AND (
    SELECT true FROM cbm.signature o
    JOIN cbm.scene os ON os.id = o.scene_id
    WHERE o.dataset_id = a.dataset_id AND o.geometry_id = a.geometry_id AND o.product_id = a.product_id
      AND o.scene_id <> a.scene_id
      AND o.obstime BETWEEN a.obstime - interval '1 hour' AND a.obstime + interval '1 hour'
      AND os.state = 'active' AND os.card = sc.card AND os.platform = sc.platform
      AND (os.datatake_start = sc.datatake_start
           OR coalesce(os.absolute_orbit = sc.absolute_orbit, os.relative_orbit = sc.relative_orbit))
      AND (o.tile_rank, os.tile, -o.px_imaged, o.scene_id) < (a.tile_rank, sc.tile, -a.px_imaged, a.scene_id)
    LIMIT 1
  ) IS NULL;
