"""Readers make image sets of what lies on disk. Only they parse file names and label files."""

from cuescope.readers.cue_conflict import read_cue_conflict
from cuescope.readers.cues import CueSet, read_cues
from cuescope.readers.distortions import read_distortions
from cuescope.readers.folder import read_folder
from cuescope.readers.human_data import read_human_data, with_answers
from cuescope.readers.imagenet import read_real, real_labels
from cuescope.readers.parts import read_parts
from cuescope.readers.versions import read_versions
from cuescope.readers.voc import read_voc, voc_folders, with_boxes

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
