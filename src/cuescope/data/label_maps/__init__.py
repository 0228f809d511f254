"""Label maps of a whole image set in one indexed file: written once, read by image id, any map in microseconds."""

from cuescope.data.label_maps.file import (
    FILE,
    LabelMapFile,
    label_map_bytes,
    open_label_maps,
    pack_label_maps,
    write_label_maps,
)
from cuescope.data.label_maps.layout import Header
from cuescope.data.label_maps.published import Axes, PublishedLabelMaps, published_bytes, published_file, read_published

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
