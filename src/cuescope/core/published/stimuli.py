"""Which images are the authors' own cue-conflict stimuli (Geirhos et al. 2019)? By their names, which are theirs alone.

160 objects, ten of each category, each in 4 to 13 of 48 texture images, three of each category: 1,280 of the 7,680
pairs that are possible. Others who number their images alike will hardly have made those pairs only.
"""

import string
from collections.abc import Iterable

from cuescope.core.classes import SIXTEEN

OBJECTS = tuple(f"{category}{i}" for category in SIXTEEN for i in range(1, 11))
TEXTURES = tuple(f"{category}{i}" for category in SIXTEEN for i in range(1, 4))

# A word an object, in their order, a line a category; a letter a texture image, a to z and A to V in their order.
_PAIRS = """
hzBH dglpvE bsvABEHLQ afhlopsxFHMNU egkorAGNS fqAMN clnrsxDKT ijyCJRV bmtBLPRT afouwGHPRT
cfikzCH altwEHLOQ ahltvzGLV nuxDIMNRV cijnpyS dkortxyB ehBGST adinpEIPV nqEMO eptwzBHMOQT
bdijoryDGIPQT glptELO jIKSV aimptvzDMPSV druvzFHMS bintvF ehvDIOQV ekmzDT bdlpsxyMP boCGI
bdhmzDIMPQT ckuDFN fkoqvEPQV ahxBG cfgjtwyFLSU bnruIQU kmptxMOSU optyBHLO firyFIK egkvyBI
dhltAJMQV afjqKS bhuxADGL ijoquzFIO aiouDO bdhqsvCEIOV npxyDJMSU kpGHNQU bfjoxzBFLO fovQT
dlsxzBFM rtABHP beijorxAP aguFRT almvyDHLNRT aeijorzGPS cdowBILRU gjrFJMN gpuwIKRT eosCEV
atACFLS luxyP ckmrFJST fijmptxBJR cfpvMORV dimpAJNV bdlosBGJMR cdhovyCEOV hjvCLNV hrsyEIL
ajmtxzEMQ nruvHPV egvIRV aktxzCGLNQV beimptAGIMO dADMQ bopDGHOU dikt glnqxzCFOT cdgkpBJKR
bdxyCEHSV emLN biruFN ewALRU gjorsxCLPRV kEIU ajoptvyDHOV adimsADHMOQ dilnrAFHL bglrtvBEQ
dosCFIV egrDEIN fhjtvFJM alortyINQ agACIKQ glptACOQV egoqswFLV bemvzKNSU akvAL alnpvDGPRU
cdjotxyFP bhqvGP fkmBEIKPU cgjqxyBILQU fouHOQU gjvBIU ltzMPR foqACGMS cfimpsvz agpuBEHLRU
benpuyFMR cfjmrvBJMU wyLNQT hjouADQ eiqsAHT gjquwFOQV cfjruvCEMO ciknvCEHOSV bhozDGJ dHKP
bekuzBGJ ipBHN hlmtvDI jqwCLORV cfglpvGKOR egnqtyFHO enpuADENRU bxzGLQV cehjnvzILV cnsKST
akuyCEHMQU eijquxEIU evCMN cdmtwDKOR hwBEMPRV agjorACFNST clortzI gmrtwV bfgjmqyI fyEJMNS
lovDG fgkopsyGSV aeortwDJNT hqsyCEJMOV agjrGHL cegjAIPST puvCFHKQ xyMO belntyCKPQ bdgnwSU
dijuvzDEN chkoruyBHKS fgkuvzDGMOR cdoqNR bksxGKPT egnrwCFOSU ekmzIMRU qwGHL boqAHV aguBJV
"""

PAIRS = frozenset(
    f"{name}-{TEXTURES[string.ascii_letters.index(letter)]}"
    for name, letters in zip(OBJECTS, _PAIRS.split(), strict=True)
    for letter in letters
)
"""Names of the 1,280 stimuli, without suffix."""


def are_published(ids: Iterable[str]) -> bool:
    """Whether all these images, at least one, are named as stimuli of the authors; folders and suffixes do not count.

    >>> are_published(["airplane/airplane1-bicycle2.png"]), are_published(["airplane/airplane1-bicycle1.png"])
    (True, False)
    """
    names = {name.rpartition("/")[2].rpartition(".")[0] for name in ids}
    return bool(names) and names <= PAIRS


def are_published_objects(ids: Iterable[str], *, textures: bool = False) -> bool:
    """Whether these are all of the authors' images of one cue: 160 objects, or the 48 texture images, by their names.

    >>> are_published_objects(f"edges/{name}.png" for name in OBJECTS), are_published_objects(["edges/airplane1.png"])
    (True, False)
    """
    names = [name.rpartition("/")[2].rpartition(".")[0].rpartition("_")[2].lower() for name in ids]
    return sorted(names) == sorted(TEXTURES if textures else OBJECTS)
