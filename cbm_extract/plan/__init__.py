"""Parcels rasterised once per lattice: geometries in, runs of pixels out. No SQL, no rasters."""
