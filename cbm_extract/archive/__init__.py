"""Datasets as folders of Parquet files, and back."""
