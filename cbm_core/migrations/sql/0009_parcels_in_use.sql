-- cbm: expand no-transaction
-- Which parcel sets have geometries in use, and which geometries are not: asked for every scene, and
-- answered without looking at a country's geometries.
DROP INDEX CONCURRENTLY IF EXISTS cbm.parcel_geometry_in_use;
CREATE INDEX CONCURRENTLY parcel_geometry_in_use ON cbm.parcel_geometry (dataset_id, parcel_set_id) WHERE retired_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS cbm.parcel_geometry_retired;
CREATE INDEX CONCURRENTLY parcel_geometry_retired ON cbm.parcel_geometry (parcel_set_id, id) WHERE retired_at IS NOT NULL;

-- For clients that know parcels by numbers (`cbm dataset legacy-views`).
DROP INDEX CONCURRENTLY IF EXISTS cbm.parcel_by_number;
CREATE INDEX CONCURRENTLY parcel_by_number ON cbm.parcel (dataset_id, cbm.whole_number(pid)) WHERE known_to = 'infinity';
