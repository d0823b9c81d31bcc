-- cbm: expand
-- References of parcels and geometries, checked once per statement. An import writes a hundred
-- thousand rows and more that name one dataset and one parcel set; foreign keys look them up again
-- for every row, about two of the five seconds that 100,000 parcels took the server.
--
-- Who adds rows holds the dataset's row FOR KEY SHARE, who deletes geometries or sets holds it FOR
-- UPDATE: neither sees the other's work half done. parcel_set itself keeps its foreign keys.

ALTER TABLE parcel_geometry
  DROP CONSTRAINT parcel_geometry_dataset_id_fkey,
  DROP CONSTRAINT parcel_geometry_parcel_set_id_fkey;
ALTER TABLE parcel
  DROP CONSTRAINT parcel_dataset_id_fkey,
  DROP CONSTRAINT parcel_geometry_id_fkey,
  DROP CONSTRAINT parcel_parcel_set_id_fkey;

CREATE FUNCTION require_references() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, cbm, pg_temp AS $$
DECLARE
  lost record;
BEGIN
  PERFORM FROM cbm.dataset WHERE id IN (SELECT dataset_id FROM added GROUP BY 1) FOR KEY SHARE;
  SELECT a.* INTO lost
  FROM (SELECT dataset_id, parcel_set_id FROM added GROUP BY 1, 2) a
  WHERE NOT EXISTS (SELECT FROM cbm.parcel_set s
                    WHERE s.id = a.parcel_set_id AND s.dataset_id = a.dataset_id);
  IF FOUND THEN
    RAISE foreign_key_violation USING MESSAGE = format(
      'a row of %s names parcel set %s, which dataset %s does not have',
      TG_TABLE_NAME, lost.parcel_set_id, lost.dataset_id);
  END IF;
  IF TG_TABLE_NAME = 'parcel' THEN
    SELECT a.dataset_id, a.geometry_id INTO lost
    FROM added a LEFT JOIN cbm.parcel_geometry g ON g.id = a.geometry_id AND g.dataset_id = a.dataset_id
    WHERE g.id IS NULL LIMIT 1;
    IF FOUND THEN
      RAISE foreign_key_violation USING MESSAGE = format(
        'a parcel names geometry %s, which dataset %s does not have', lost.geometry_id, lost.dataset_id);
    END IF;
  END IF;
  RETURN NULL;
END
$$;

CREATE FUNCTION refuse_to_lose_references() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, cbm, pg_temp AS $$
DECLARE
  used integer;
BEGIN
  PERFORM FROM cbm.dataset WHERE id IN (SELECT dataset_id FROM gone GROUP BY 1) FOR UPDATE;
  IF TG_TABLE_NAME = 'parcel_geometry' THEN
    SELECT o.id INTO used FROM gone o JOIN cbm.parcel p ON p.geometry_id = o.id LIMIT 1;
  ELSE
    SELECT o.id INTO used FROM gone o
    WHERE EXISTS (SELECT FROM cbm.parcel_geometry g WHERE g.parcel_set_id = o.id)
       OR EXISTS (SELECT FROM cbm.parcel p WHERE p.parcel_set_id = o.id) LIMIT 1;
  END IF;
  IF FOUND THEN
    RAISE foreign_key_violation USING MESSAGE = format(
      'row %s of %s is still referred to by parcels', used, TG_TABLE_NAME);
  END IF;
  RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION require_references, refuse_to_lose_references FROM PUBLIC;

CREATE TRIGGER references_of_added AFTER INSERT ON parcel_geometry
  REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION require_references();
CREATE TRIGGER references_of_changed AFTER UPDATE ON parcel_geometry
  REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION require_references();
CREATE TRIGGER references_of_added AFTER INSERT ON parcel
  REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION require_references();
CREATE TRIGGER references_of_changed AFTER UPDATE ON parcel
  REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION require_references();
CREATE TRIGGER references_to_deleted AFTER DELETE ON parcel_geometry
  REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_lose_references();
CREATE TRIGGER references_to_deleted AFTER DELETE ON parcel_set
  REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_lose_references();
