"""Strips of bands in, statistics of parcels out. Pure (no SQL, no rasters)."""
