"""What is extracted: products as YAML definitions."""
