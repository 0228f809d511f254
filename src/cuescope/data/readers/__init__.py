"""Readers make image sets of what lies on disk. Only they parse file names and label files."""

from cuescope.data.readers.cue_conflict import read_cue_conflict
from cuescope.data.readers.cues import CueSet, read_cues
from cuescope.data.readers.distortions import read_distortions
from cuescope.data.readers.folder import read_folder
from cuescope.data.readers.human_data import read_human_data, with_answers
from cuescope.data.readers.imagenet import read_real, real_labels
from cuescope.data.readers.parts import read_parts
from cuescope.data.readers.versions import read_versions
from cuescope.data.readers.voc import read_voc, voc_folders, with_boxes

__all__ = [
    "CueSet",
    "read_cue_conflict",
    "read_cues",
    "read_distortions",
    "read_folder",
    "read_human_data",
    "read_parts",
    "read_real",
    "read_versions",
    "read_voc",
    "real_labels",
    "voc_folders",
    "with_answers",
    "with_boxes",
]
