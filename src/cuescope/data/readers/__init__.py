"""Readers make image sets of what lies on disk. Only they parse file names and label files."""

from cuescope.data.readers.containers import read_stored as read_stored
from cuescope.data.readers.cue_conflict import read_cue_conflict as read_cue_conflict
from cuescope.data.readers.cue_conflict import with_originals as with_originals
from cuescope.data.readers.cues import CueSet as CueSet
from cuescope.data.readers.cues import read_cues as read_cues
from cuescope.data.readers.distortions import read_distortions as read_distortions
from cuescope.data.readers.folder import read_files as read_files
from cuescope.data.readers.folder import read_folder as read_folder
from cuescope.data.readers.human_data import read_human_data as read_human_data
from cuescope.data.readers.human_data import with_answers as with_answers
from cuescope.data.readers.imagenet import read_real as read_real
from cuescope.data.readers.imagenet import real_labels as real_labels
from cuescope.data.readers.parts import read_parts as read_parts
from cuescope.data.readers.remote import read_remote as read_remote
from cuescope.data.readers.versions import read_versions as read_versions
from cuescope.data.readers.voc import voc_folders as voc_folders
from cuescope.data.readers.voc import with_boxes as with_boxes
