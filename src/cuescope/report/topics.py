"""Which topic of the report does a question belong to? The only place that says so."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cuescope.report.gather import Section

ELSEWHERE = "What are its features worth elsewhere?"
TOPICS = {
    "Which cue does it use?": (
        "shape_bias cue_sensitivity cue_suppression cue_accuracy scramble stylized typicality layer_cues"
    ),
    "Which part of the image?": "occlusion evidence interaction stickers top_patches visual_words masking_sensitivity",
    "How stable is it?": (
        "shift_stability worst_shift shift_consistency shift_map distortion_curves invariance shiftability nonlinearity"
    ),
    "Is it right, and are the labels?": "accuracy label_errors multi_label label_map crop_supervision",
    "Does it err like people, and like each other?": "human_agreement error_agreement logit_correlation",
    ELSEWHERE: "layer_probe few_shot label_issues near_duplicates class_subset attack",
    "What is inside the network?": "filters top_units deconvnet picture_sanity evolution correspondence ablation",
}
"""Headings, and the names of the instruments below them."""
OTHERS = "What else was asked"
"""For instruments from outside."""


class Topic(NamedTuple):
    """A heading with its sections."""

    title: str
    name: str
    """Of its place on the page."""
    sections: tuple[Section, ...]


def topics(sections: Sequence[Section]) -> Iterable[Topic]:
    """The answered questions by topic, each topic in the order of the sections; empty topics are left out."""
    known = {name: title for title, names in TOPICS.items() for name in names.split()}
    for number, title in enumerate([*TOPICS, OTHERS]):
        mine = tuple(s for s in sections if s.answered and known.get(s.instrument, OTHERS) == title)
        if mine:
            yield Topic(title, f"topic-{number}", mine)
