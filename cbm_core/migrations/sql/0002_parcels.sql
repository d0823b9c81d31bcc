-- cbm: expand
-- Declared parcels and their geometries. Evidence is not overwritten: a changed parcel is a new row,
-- a changed geometry a new geometry.

CREATE TABLE crs (
  id integer PRIMARY KEY,
  definition text NOT NULL UNIQUE
);
COMMENT ON TABLE crs IS 'Coordinate reference systems of imported files: id is the SRID of geom_src (the EPSG code, or 900000 and up for others), definition what pyproj reads.';
GRANT SELECT, INSERT ON crs TO cbm_ingest;
GRANT SELECT ON crs TO cbm_api, cbm_read;

CREATE TABLE parcel_set (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  dataset_id smallint NOT NULL REFERENCES dataset,
  layer text NOT NULL DEFAULT '' CHECK (layer ~ '^[a-z0-9_]{0,63}$'),
  source text NOT NULL,
  checksum bytea NOT NULL,
  options jsonb NOT NULL,
  crs_id integer NOT NULL REFERENCES crs,
  report jsonb NOT NULL,
  parcels integer NOT NULL,
  added integer NOT NULL,
  changed integer NOT NULL,
  removed integer NOT NULL,
  software_version text NOT NULL,
  imported_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE parcel_set IS 'One import of one (dataset, layer): file checksum (sha256), options, report, counts. Ids rise in the order of commit within a dataset.';
CREATE INDEX parcel_set_latest ON parcel_set (dataset_id, layer, id);

CREATE TABLE parcel_geometry (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  dataset_id smallint NOT NULL REFERENCES dataset,
  parcel_set_id integer NOT NULL REFERENCES parcel_set,
  hash bytea NOT NULL,
  geom_src geometry(MultiPolygon) NOT NULL,
  geom geometry(MultiPolygon, 4326) NOT NULL,
  area_m2 double precision NOT NULL,
  retired_at timestamptz
);
COMMENT ON TABLE parcel_geometry IS 'A distinct geometry of a dataset, introduced by parcel_set_id; ids in Hilbert order within an import. A retired geometry that comes back is a new row.';
COMMENT ON COLUMN parcel_geometry.hash IS 'First 16 bytes of the sha256 of the SRID and the geometry in the legal CRS (normalised WKB).';
COMMENT ON COLUMN parcel_geometry.area_m2 IS 'Area in square metres, in EPSG:3035 (equal area).';
CREATE UNIQUE INDEX parcel_geometry_active ON parcel_geometry (dataset_id, hash) WHERE retired_at IS NULL;
CREATE INDEX parcel_geometry_set ON parcel_geometry (parcel_set_id, id);
CREATE INDEX parcel_geometry_geom ON parcel_geometry USING gist (geom);

CREATE TABLE parcel (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  dataset_id smallint NOT NULL REFERENCES dataset,
  layer text NOT NULL,
  pid text NOT NULL,
  crop_code text,
  crop_name text,
  attributes jsonb NOT NULL DEFAULT '{}',
  geometry_id integer NOT NULL REFERENCES parcel_geometry,
  parcel_set_id integer NOT NULL REFERENCES parcel_set,
  valid_from date NOT NULL,
  valid_to date NOT NULL DEFAULT 'infinity',
  known_from timestamptz NOT NULL DEFAULT now(),
  known_to timestamptz NOT NULL DEFAULT 'infinity',
  CHECK (valid_from < valid_to),
  CHECK (known_from <= known_to)
);
COMMENT ON TABLE parcel IS 'A declared parcel as known from known_from to known_to, valid in the field from valid_from to valid_to (exclusive ends).';
CREATE UNIQUE INDEX parcel_current ON parcel (dataset_id, layer, pid, valid_from) WHERE known_to = 'infinity';
CREATE INDEX parcel_by_geometry ON parcel (geometry_id);

SELECT protect_by_dataset('parcel_set', 'dataset_id');
SELECT protect_by_dataset('parcel_geometry', 'dataset_id');
SELECT protect_by_dataset('parcel', 'dataset_id');
GRANT INSERT ON parcel_set TO cbm_ingest;
GRANT INSERT, UPDATE ON parcel_geometry TO cbm_ingest;
GRANT INSERT, UPDATE ON parcel TO cbm_ingest;
