"""Parcels rasterised once per lattice: geometries in, runs of pixels out. Pure (no SQL, no rasters)."""
