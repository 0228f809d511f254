"""Tables of docs/ that claims read: what is trained for minutes to hours is not trained again for one of them."""

from cuescope.api.claims.claim import Page, Reading, Trial, of

TRAINED = Page("trained", "docs/training_claims.md", "scripts/claims_training.py", 4)
ABLATED = Page("ablated", "docs/ablation.md", "scripts/ablate_zfnet.py", 3)
BLURRED = Page("blurred", "docs/shift.md", "scripts/measure_shift.py blur --images 16000", 4)
CENTERED = Page("centered", "docs/shift.md", "scripts/measure_shift.py bias", 2)
RELABELED = Page("relabeled", "docs/label_maps.md", "scripts/measure_relabel.py", 3)
RESTYLED = Page("restyled", "docs/stylized.md", "scripts/measure_stylized.py", 3)


def more(page: Page, row: str) -> Trial:
    """The difference in this row is surely above 0."""
    return Trial(page, of(row), low=0)


def fewer(page: Page, row: str) -> Trial:
    """The difference in this row is surely below 0."""
    return Trial(page, of(row), high=0)


def without(layers: str, low: float = float("-inf"), high: float = float("inf")) -> Trial:
    """By how much the error of a ZFNet that was trained so lies above that of the whole one."""
    return Trial(ABLATED, Reading("apart", (layers, "as it is")), low, high)
