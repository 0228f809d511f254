"""Label maps of a whole image set in one indexed file: written once, read by image id, any map in microseconds."""

from cuescope.data.label_maps.file import FILE as FILE
from cuescope.data.label_maps.file import LabelMapFile as LabelMapFile
from cuescope.data.label_maps.file import label_map_bytes as label_map_bytes
from cuescope.data.label_maps.file import open_label_maps as open_label_maps
from cuescope.data.label_maps.file import pack_label_maps as pack_label_maps
from cuescope.data.label_maps.file import write_label_maps as write_label_maps
from cuescope.data.label_maps.layout import Header as Header
from cuescope.data.label_maps.published import Axes as Axes
from cuescope.data.label_maps.published import PublishedLabelMaps as PublishedLabelMaps
from cuescope.data.label_maps.published import published_bytes as published_bytes
from cuescope.data.label_maps.published import published_file as published_file
from cuescope.data.label_maps.published import read_published as read_published
