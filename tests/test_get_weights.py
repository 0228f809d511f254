"""Published weights: from a local server, checked before they are opened, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from cuescope.api import get_weights as module
from cuescope.api.get_weights import get_weights
from cuescope.classifier.sources import load, weights
from cuescope.classifier.sources.stylizers import load_stylizer
from cuescope.cli import main
from cuescope.core.classes import imagenet_1k
from cuescope.core.errors import CueError
from cuescope.core.published.weights import WEIGHTS, Weights
from cuescope.models.adain import AdaIN
from cuescope.models.bagnet import bagnet9
from cuescope.models.seeding import seeded
from served import Server, serving

SMALL = "torchvision/squeezenet1_1"


def saved(thing: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def squeezenet() -> nn.Module:
    return seeded(5, torchvision.models.squeezenet1_1).eval()


@pytest.fixture(scope="module")
def published() -> bytes:
    """As Geirhos et al. 2019 publish theirs: an old file, of a DataParallel, with more than the network in it."""
    state = {f"module.{key}": tensor for key, tensor in squeezenet().state_dict().items()}
    buffer, whole = io.BytesIO(), {"epoch": 60, "arch": "small", "state_dict": state, "best_prec1": torch.tensor(60.2)}
    torch.save(whole, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.fixture
def server(published: bytes) -> Iterator[Server]:
    with serving(published) as server:
        yield server


def plant(
    monkeypatch: pytest.MonkeyPatch, data: bytes, model: str = SMALL, name: str = "small", digits: int = 8
) -> None:
    """Make it known that these bytes are published under a name."""
    digest = hashlib.sha256(data).hexdigest()[:digits]
    monkeypatch.setitem(module.WEIGHTS, name, Weights("http://127.0.0.1:9/nowhere", digest, model, "nobody"))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def logits(network: nn.Module, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return network(pixels)


def test_what_was_published_is_loaded_as_it_is(
    server: Server, published: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, published)
    got = get_weights("small", tmp_path / "w", url=server.url)
    assert (got.path, got.digits, got.fresh) == (tmp_path / "w" / "small.safetensors", 8, True)
    assert files(tmp_path / "w") == ["small.safetensors"]
    assert got.spec == f"{SMALL}@{got.path}"
    classifier, pixels = load(got.spec, device="cpu", fold=False, size=64), torch.rand(2, 3, 64, 64)
    wanted = logits(squeezenet(), classifier.normalize(pixels))
    assert torch.allclose(classifier.logits(pixels), wanted, rtol=1e-5, atol=1e-6)
    again = get_weights("small", tmp_path / "w", url="http://127.0.0.1:9/nothing")
    assert (again.fresh, len(server.asked)) == (False, 1)


def test_other_bytes_are_never_opened(
    server: Server, published: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, published + b"x")
    monkeypatch.setattr(weights, "read", lambda _: pytest.fail("it was opened"))
    with pytest.raises(CueError, match="SHA-256") as caught:
        get_weights("small", tmp_path, url=server.url)
    assert hashlib.sha256(published).hexdigest()[:16] in caught.value.found
    assert files(tmp_path) == [], "nothing is left behind"
    monkeypatch.undo()
    plant(monkeypatch, published, digits=64)
    assert get_weights("small", tmp_path, url=server.url).digits == 64


def test_a_download_that_stopped_goes_on(
    server: Server, published: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, published)
    server.stop_after = 1000
    with pytest.raises(CueError, match="1,000 of"):
        get_weights("small", tmp_path, url=server.url)
    assert "small.safetensors" not in files(tmp_path)
    server.stop_after = None
    assert get_weights("small", tmp_path, url=server.url).fresh
    assert server.starts == [0, 1000]
    assert files(tmp_path) == ["small.safetensors"]


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch evil",)


def test_code_in_what_was_published_is_not_run(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    server.data = saved({"state_dict": squeezenet().state_dict(), "best": Evil()})
    plant(monkeypatch, server.data)
    with pytest.raises(CueError, match="more than tensors"):
        get_weights("small", "w", url=server.url)
    assert files(tmp_path) == ["w"]
    assert files(tmp_path / "w") == []


def test_weights_of_another_network_are_not_kept(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.data = saved(bagnet9(10).state_dict())
    plant(monkeypatch, server.data)
    with pytest.raises(CueError, match="do not fit"):
        get_weights("small", tmp_path, url=server.url)
    assert files(tmp_path) == []


def test_no_network_no_file_and_no_room_are_told(
    server: Server, published: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, published)
    with pytest.raises(CueError, match="404"):
        get_weights("small", tmp_path, url=server.url + "x")
    with pytest.raises(CueError, match="cannot be read") as caught:
        get_weights("small", tmp_path)
    assert f"{SMALL}@FILE" in caught.value.do
    with pytest.raises(CueError, match="https://"):
        get_weights("small", tmp_path, url="file:///etc/passwd")
    assert files(tmp_path) == []
    with pytest.raises(CueError) as caught:
        get_weights("bagnet34", tmp_path)
    assert "bagnet33" in caught.value.do
    (tmp_path / "file").write_text("")
    with pytest.raises(CueError, match="cannot be written"):
        get_weights("small", tmp_path / "file", url=server.url)


def test_a_bagnet_with_the_authors_names(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = seeded(3, bagnet9).eval()
    server.data = saved(network.state_dict())
    plant(monkeypatch, server.data, "cuescope/bagnet9", "bagnet9")
    classifier = load(get_weights("bagnet9", tmp_path, url=server.url).spec, device="cpu", size=64, fold=False)
    assert classifier.classes == imagenet_1k()
    assert "patch_logits" in classifier.capabilities
    pixels = torch.rand(1, 3, 64, 64)
    assert torch.allclose(classifier.logits(pixels), logits(network, classifier.normalize(pixels)), atol=1e-5)


def test_both_parts_of_the_stylizer(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = seeded(2, AdaIN)
    deeper = {"32.weight": torch.zeros(2, 2, 3, 3), "32.bias": torch.zeros(2)}
    for name, state in (
        ("vgg_normalised", network.encoder.state_dict() | deeper),
        ("decoder", network.decoder.state_dict()),
    ):
        server.data, server.tag = saved(state), f'"{name}"'
        plant(monkeypatch, server.data, "", name)
        assert get_weights(name, tmp_path, url=server.url).spec == str(tmp_path)
    found = load_stylizer(tmp_path)
    wanted, loaded = network.state_dict(), found.network.state_dict()
    assert wanted.keys() == loaded.keys()
    assert all(torch.equal(wanted[key], loaded[key]) for key in wanted)
    server.data, server.tag = saved(network.decoder.state_dict()), '"other"'
    plant(monkeypatch, server.data, "", "vgg_normalised")
    (tmp_path / "vgg_normalised.safetensors").unlink()
    with pytest.raises(CueError):
        get_weights("vgg_normalised", tmp_path, url=server.url)


def test_the_table() -> None:
    """The digits that torch.hub's names carry are those that are checked."""
    for known in WEIGHTS.values():
        assert int(known.sha256, 16) >= 0
        assert len(known.sha256) == 64 or known.url.endswith(f"-{known.sha256}.pth.tar")
    assert {"bagnet9", "bagnet17", "bagnet33", "resnet50-sin", "vgg_normalised", "decoder"} <= set(WEIGHTS)


def test_the_command(
    server: Server,
    published: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plant(monkeypatch, published)
    for status, url in ((2, server.url + "x"), (0, server.url), (0, server.url)):
        with pytest.raises(SystemExit) as end:
            main(["get", "weights", "small", str(tmp_path), "--url", url])
        assert end.value.code == status
    told = capsys.readouterr().err
    assert "404" in told
    assert told.count(f"cuescope audit {SMALL}@{tmp_path / 'small.safetensors'}") == 2
    assert "8 of 64 digits" in told
