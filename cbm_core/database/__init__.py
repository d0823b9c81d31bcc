"""Looking after the database itself: sizes, order of partitions, checks."""
