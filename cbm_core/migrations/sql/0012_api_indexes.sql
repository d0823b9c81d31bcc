-- cbm: expand no-transaction
-- What the API asks of tables that may be large, and the maps of what was imported before.

-- The log of reads: shown by time, and kept short.
DROP INDEX CONCURRENTLY IF EXISTS cbm.audit_at;
CREATE INDEX CONCURRENTLY audit_at ON cbm.audit (at);
DROP INDEX CONCURRENTLY IF EXISTS cbm.audit_reads;
CREATE INDEX CONCURRENTLY audit_reads ON cbm.audit (at) WHERE action = 'read';

-- Parcels by place in the order of pages, and as they were known before.
DROP INDEX CONCURRENTLY IF EXISTS cbm.parcel_geometry_of_dataset;
CREATE INDEX CONCURRENTLY parcel_geometry_of_dataset ON cbm.parcel_geometry (dataset_id, id);
DROP INDEX CONCURRENTLY IF EXISTS cbm.parcel_past;
CREATE INDEX CONCURRENTLY parcel_past ON cbm.parcel (dataset_id, layer, pid, valid_from) WHERE known_to < 'infinity';

-- Whether a dataset is extracted with a product is asked with every request for signatures.
DROP INDEX CONCURRENTLY IF EXISTS cbm.work_item_product;
CREATE INDEX CONCURRENTLY work_item_product ON cbm.work_item (dataset_id, product_id);

-- Each in a transaction of its own: an import of the same dataset waits for one layer, not for all.
DO $$ DECLARE imported record; BEGIN
  FOR imported IN SELECT DISTINCT dataset_id, layer FROM cbm.parcel_set ORDER BY 1, 2 LOOP
    PERFORM cbm.fill_grid_tiles(imported.dataset_id, imported.layer); COMMIT; END LOOP; END $$;
