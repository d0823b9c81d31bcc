"""The data work, a folder per station: catalogue -> parcels -> plan -> read -> reduce -> store."""
