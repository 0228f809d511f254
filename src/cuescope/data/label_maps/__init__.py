"""Label maps of a whole image set in one indexed file: written once, read by image id, any map in microseconds."""

from cuescope.data.label_maps.layout import Header
from cuescope.data.label_maps.published import Axes, PublishedLabelMaps, published_bytes, published_file, read_published
from cuescope.data.label_maps.reading import FILE, LabelMapFile, open_label_maps
from cuescope.data.label_maps.writing import label_map_bytes, pack_label_maps, write_label_maps

__all__ = [
    "FILE",
    "Axes",
    "Header",
    "LabelMapFile",
    "PublishedLabelMaps",
    "label_map_bytes",
    "open_label_maps",
    "pack_label_maps",
    "published_bytes",
    "published_file",
    "read_published",
    "write_label_maps",
]
