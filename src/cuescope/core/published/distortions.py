"""Accuracies of people and of two networks on distorted images, by distortion and level.

Counted from the trial-by-trial answers that Geirhos et al. publish, of people in 2018 and of networks in 2019: shares
of right answers in a choice among the 16 categories, on gray images of 224 px, equally many of each category.
"""

from collections.abc import Mapping, Sequence

PEOPLE, RESNET, STYLIZED = "people", "ResNet-50", "ResNet-50 trained on Stylized-ImageNet"
SOURCE = "trial data of Geirhos et al. 2018 (people) and 2019 (networks), 16 categories"
CHANCE = 1 / 16

_TABLE = """\
uniform-noise  0     0.03  0.05  0.1   0.2   0.35  0.6   0.9
people         .805  .796  .781  .751  .609  .456  .168  .060
network        .887  .804  .710  .384  .110  .065  .062  .062
SIN            .852  .827  .769  .659  .457  .236  .081  .063
contrast       100   50    30    15    10    5     3     1
people         .917  .881  .875  .819  .760  .546  .310  .083
network        .958  .948  .930  .836  .755  .528  .313  .069
SIN            .911  .874  .861  .825  .803  .769  .662  .369
low-pass       0     1     3     5     7     10    15    40
people         .859  .808  .718  .583  .485  .312  .185  .077
network        .966  .917  .613  .320  .183  .135  .079  .061
SIN            .891  .829  .276  .191  .138  .116  .098  .057
high-pass      inf   3     1.5   1     0.7   0.55  0.45  0.4
people         .847  .819  .731  .662  .498  .319  .097  .069
network        .950  .756  .351  .149  .105  .089  .075  .074
SIN            .898  .745  .705  .641  .609  .593  .502  .398
phase-noise    0     30    60    90    120   150   180
people         .836  .815  .738  .574  .308  .092  .070
network        .961  .926  .795  .523  .175  .090  .076
SIN            .893  .867  .816  .628  .281  .086  .084
rotation       0     90    180   270
people         .848  .785  .764  .791
network        .955  .634  .718  .620
SIN            .897  .470  .519  .471
eidolon-1      1     2     4     8     16    32    64    128
people         .860  .861  .831  .752  .502  .291  .120  .074
network        .928  .891  .753  .369  .156  .113  .103  .062
SIN            .884  .878  .841  .656  .325  .150  .091  .075
eidolon-0.3    1     2     4     8     16    32    64    128
people         .875  .844  .790  .598  .225  .120  .083  .072
network        .928  .891  .681  .259  .094  .081  .072  .062
SIN            .881  .863  .800  .625  .200  .103  .056  .062
eidolon-0      1     2     4     8     16    32    64    128
people         .834  .812  .685  .406  .140  .077  .065  .058
network        .919  .878  .463  .147  .072  .062  .066  .062
SIN            .856  .838  .756  .419  .175  .075  .069  .041
"""
"""Distortions with their levels, each followed by the shares of people, of ResNet-50 and of the one trained on SIN."""


def _by_level(levels: Sequence[str], shares: Sequence[str]) -> dict[float, float]:
    numbers = (int(level) if level.isdecimal() else float(level) for level in levels)
    return dict(zip(numbers, map(float, shares), strict=True))


_rows = [line.split() for line in _TABLE.splitlines()]
_SHARES = {
    name: {who: _by_level(levels, _rows[4 * i + 1 + k][1:]) for k, who in enumerate((PEOPLE, RESNET, STYLIZED))}
    for i, (name, *levels) in enumerate(_rows[::4])
}


def published(distortion: str) -> Mapping[str, Mapping[float, float]]:
    """Who was right how often, by level; nothing for a distortion of which nothing is known.

    >>> published("contrast")[PEOPLE][5]
    0.546
    """
    return _SHARES.get(distortion, {})
