-- cbm: expand
-- The catalogue of scenes, the definitions of what is extracted, and parcels rasterised on lattices.

CREATE TABLE scene (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  reference text NOT NULL,
  part text NOT NULL DEFAULT '',
  card text NOT NULL CHECK (card ~ '^[a-z][a-z0-9]{0,15}$'),
  platform text NOT NULL,
  obstime timestamptz NOT NULL,
  datatake_start timestamptz NOT NULL,
  tile text NOT NULL,
  datastrip timestamptz,
  orbit_direction text CHECK (orbit_direction IN ('ascending', 'descending')),
  relative_orbit smallint,
  baseline text,
  generation_time timestamptz,
  cloud_percent real,
  footprint geometry(MultiPolygon, 4326) NOT NULL,
  extent_crs text NOT NULL,
  extent_bounds double precision[] NOT NULL CHECK (array_length(extent_bounds, 1) = 4),
  assets jsonb NOT NULL,
  source text NOT NULL,
  state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'superseded', 'held', 'retracted')),
  state_reason text,
  state_since timestamptz NOT NULL DEFAULT now(),
  superseded_by integer REFERENCES scene,
  added_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (card, reference, part)
);
COMMENT ON TABLE scene IS 'One acquisition product of a card. Flagged, never deleted: evidence refers to it.';
COMMENT ON COLUMN scene.extent_bounds IS 'left, bottom, right, top of the raster in extent_crs.';
COMMENT ON COLUMN scene.assets IS 'band -> {href, index, scale, offset, nodata, offset_source}; stored = raw * scale + offset.';
CREATE INDEX scene_acquisition ON scene (card, platform, datatake_start, tile, part);
CREATE INDEX scene_obstime ON scene (card, obstime);
CREATE INDEX scene_footprint ON scene USING gist (footprint);
GRANT SELECT ON scene TO cbm_ingest, cbm_api, cbm_read;
GRANT INSERT, UPDATE ON scene TO cbm_ingest;

CREATE TABLE product (
  id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL CHECK (name ~ '^[a-z][a-z0-9_]{0,62}$'),
  revision smallint NOT NULL,
  card text NOT NULL,
  variables text[] NOT NULL,
  definition jsonb NOT NULL,
  hash bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (name, revision),
  UNIQUE (name, hash)
);
COMMENT ON TABLE product IS 'An immutable definition of what is extracted; a changed definition is the next revision beside the old.';
COMMENT ON COLUMN product.variables IS 'Bands, then indices, in the order of signature.stats.';
GRANT SELECT ON product TO cbm_ingest, cbm_api, cbm_read;
GRANT INSERT ON product TO cbm_ingest;

CREATE TABLE plan (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  dataset_id smallint NOT NULL REFERENCES dataset,
  parcel_set_id integer NOT NULL REFERENCES parcel_set,
  lattice text NOT NULL,
  buffer_m real NOT NULL,
  pipeline text NOT NULL,
  pipeline_accuracy_m double precision,
  geometries integer NOT NULL,
  content_hash bytea NOT NULL,
  software_version text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (parcel_set_id, lattice, buffer_m)
);
COMMENT ON TABLE plan IS 'The geometries that one parcel set introduced, rasterised on one lattice after an inward buffer.';

CREATE TABLE plan_chunk (
  plan_id integer NOT NULL REFERENCES plan ON DELETE CASCADE,
  chunk smallint NOT NULL,
  row_min integer NOT NULL,
  row_max integer NOT NULL,
  col_min integer NOT NULL,
  col_max integer NOT NULL,
  payload bytea NOT NULL,
  PRIMARY KEY (plan_id, chunk)
);
-- Runs are compressed by their writer.
ALTER TABLE plan_chunk ALTER payload SET STORAGE EXTERNAL;

CREATE TABLE monitorability (
  geometry_id integer NOT NULL,
  lattice text NOT NULL,
  buffer_m real NOT NULL,
  dataset_id smallint NOT NULL REFERENCES dataset,
  pixels integer NOT NULL,
  whole_pixels integer NOT NULL,
  pixels_planned integer NOT NULL,
  width_m real NOT NULL,
  code text NOT NULL CHECK (code IN ('ok', 'few_pixels', 'no_pixel', 'too_small')),
  PRIMARY KEY (geometry_id, lattice, buffer_m)
);
COMMENT ON TABLE monitorability IS 'How well a geometry can be seen on a lattice: pixels before and after (planned) the inward buffer, pixels wholly inside, mean width.';

SELECT protect_by_dataset('plan', 'dataset_id');
SELECT protect_by_dataset('monitorability', 'dataset_id');
GRANT INSERT ON plan, plan_chunk, monitorability TO cbm_ingest;
GRANT SELECT ON plan_chunk TO cbm_ingest;
