"""What is said of the measures: sentences whose conditions are written down, each said by its name.

A verdict has three outcomes, as its intervals have: the question is answered with yes, with no, or the data cannot
tell. "No difference" and "both alike" are answers too: they need the whole interval inside a margin, and an interval
that merely holds 0 says nothing.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from typing import Any, Literal

Said = Literal["yes", "no", "cannot tell", "does not apply"]


@dataclass(frozen=True)
class Verdict:
    """The answer to an instrument's question, in a word and in a sentence that says no more than the intervals do."""

    said: Said
    sentence: str
    remedy: str = ""
    """What to do about it."""
    command: str = ""
    """The command that does it, with {images}, {styles}, {models} and {model} for what the run was given."""
    names: tuple[str, ...] = ()
    """Names of the sentences it consists of, each one of the instrument's `sentences`."""
    clauses: tuple[str, ...] = ()
    """The same in a few words each, behind the classifier's name, of those sentences that have such."""

    def __add__(self, other: Verdict) -> Verdict:
        """Another sentence behind this one, which goes on saying yes or no; `sum(verdicts, UNSAID)` is all of them."""
        if self == UNSAID:
            return other
        told = self if self.remedy else other
        both = {"names": self.names + other.names, "clauses": self.clauses + other.clauses}
        return replace(
            self, sentence=f"{self.sentence} {other.sentence}", remedy=told.remedy, command=told.command, **both
        )


@dataclass(frozen=True)
class Headline:
    """An instrument's line in the cue profile: a question for a yes or a no, and the measure that stands there.

    The verdict's first sentence answers the question, by the interval of this very measure: word and number agree.

    >>> Headline("Does it go by shape?", "shape_bias", "share of decisions by shape", "texture", "shape").measure
    'shape_bias'
    """

    question: str
    measure: str
    number: str = ""
    """What the number is, in a few words; the measure's title where empty."""
    low: str = ""
    """What the left end of its axis means, in a word."""
    high: str = ""
    margin: float | None = None
    """Where yes and no part, if that is not at chance or at 0: a line on the axis."""


UNSAID = Verdict("cannot tell", "")
"""Of a finding that says nothing."""


@dataclass(frozen=True)
class Sentence:
    """A sentence that may be said, and when. `text` is a format string of what is put in when it is said.

    >>> Sentence("yes", "the whole interval lies above chance", "It knows {share:.0%}.")(share=0.5).sentence
    'It knows 50%.'
    """

    said: Said
    when: str
    """The condition in words, in terms of the measures."""
    text: str
    remedy: str = ""
    command: str = ""
    """Of the remedy, as in `Verdict`: its fields are filled in where it is shown."""
    clause: str = ""
    """What it says in a few words, behind the classifier's name: "goes by shape". A format string too, that starts
    with its verb."""

    def __call__(self, name: str = "", /, **values: Any) -> Verdict:
        """The verdict. Raises KeyError for a value that is missing and ValueError for one that has no place."""
        wanted = {
            field.split(".")[0].split("[")[0]
            for _, field, _, _ in string.Formatter().parse(self.text + self.clause)
            if field
        }
        if extra := set(values) - wanted:
            raise ValueError(f"the sentence '{name}' has no place for {sorted(extra)}")
        clauses = (self.clause.format(**values),) if self.clause else ()
        return Verdict(self.said, self.text.format(**values), self.remedy, self.command, (name,), clauses)
