"""A stylizer from its name or its files."""

from pathlib import Path

from cuescope.classifier.sources import weights
from cuescope.core.errors import CueError
from cuescope.models.adain import AdaIN, Stylizer, encoder_state
from cuescope.models.wct import embedded

EMBEDDED = "embedded"
ENCODER, DECODER = "vgg_normalised.pth", "decoder.pth"
"""What the common files are called."""


def load_stylizer(spec: str | Path | tuple[str | Path, str | Path] = EMBEDDED) -> Stylizer:
    """Which stylizer is it? "embedded", a folder with vgg_normalised and decoder (.pth, .safetensors), or two files.

    Of two files the first is the encoder, `vgg_normalised.pth` or torchvision's VGG-19, the second the decoder that was
    trained with it; both .pth or .safetensors. Raises CueError for files that are missing or broken, and for weights of
    another layout.

    >>> load_stylizer().name
    'embedded'
    """
    if spec == EMBEDDED:
        return embedded()
    files = spec if isinstance(spec, tuple) else [_either(Path(spec) / name) for name in (ENCODER, DECODER)]
    if not isinstance(spec, tuple) and not Path(spec).is_dir():
        wanted = f"'{EMBEDDED}', or a folder with {ENCODER} and {DECODER}"
        do = "for files of other names give both, the encoder first"
        raise CueError(f"no stylizer '{spec}'", wanted=wanted, do=do)
    network = AdaIN()
    encoder, decoder = map(Path, files)
    network.encoder.load_state_dict(encoder_state(weights.read(encoder)))
    weights.fit(lambda _: network.decoder, weights.read(decoder), decoder)
    return Stylizer("adain", network)


def _either(path: Path) -> Path:
    """The file, or the one of this name that `cuescope get weights` writes."""
    other = path.with_suffix(".safetensors")
    return other if other.is_file() and not path.is_file() else path
