-- cbm: expand
-- Which parcel sets have geometries in use, and which geometries are not: asked for every scene, and
-- answered without looking at a country's geometries.

CREATE INDEX parcel_geometry_in_use ON parcel_geometry (dataset_id, parcel_set_id) WHERE retired_at IS NULL;
CREATE INDEX parcel_geometry_retired ON parcel_geometry (parcel_set_id, id) WHERE retired_at IS NOT NULL;
