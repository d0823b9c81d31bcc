"""JPEG 2000 read tile by tile: as many tiles at once as there are threads, none without need."""

from cbm_extract.read.jp2.reader import Jp2Reader, open_jp2

__all__ = ["Jp2Reader", "open_jp2"]
