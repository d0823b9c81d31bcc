"""Settings, database access, errors and migrations shared by every cbm package."""

__version__ = "0.1.0"
