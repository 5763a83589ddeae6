"""torchvision's classifiers with another head: what their features are, and weights from wherever they come."""

import math
import os
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from cnnlab.errors import ConfigError, DataError, GeometryError
from cnnlab.models import Pretrained, build_model

# One of each family whose construction differs; RegNet reads numbers while it is built, which `meta` has not.
FAMILIES = ["alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5",
            "mobilenet_v2", "mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "vgg11",
            "vit_b_32"]  # fmt: skip
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def small(backbone: str = "shufflenet_v2_x0_5", **settings: object) -> Pretrained:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Pretrained(backbone, (3, 64, 64), 2, **settings).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("backbone", FAMILIES)
def test_every_family_gives_features_and_logits_of_gray_and_color_images(backbone: str) -> None:
    side = 299 if backbone == "inception_v3" else 224
    with torch.device("meta"), torch.no_grad():
        model = Pretrained(backbone, (3, side, side), 5, head=[7], dropout=0.5).eval()
        features = model.features(torch.zeros(2, 3, side, side))
        gray = model(torch.zeros(2, 1, side, side))
    assert features.shape == (2, model.head[0].in_features)
    assert gray.shape == model(features).shape == (2, 5)
    assert {name.partition(".")[0] for name, _ in model.named_parameters()} == {"backbone", "head"}


@pytest.mark.parametrize(("backbone", "last"), [("mnasnet0_5", "classifier.1"), ("squeezenet1_1", "classifier.1")])
def test_features_are_what_torchvision_gives_its_own_last_layer(backbone: str, last: str) -> None:
    whole, model, seen = models.get_model(backbone).eval(), small(backbone), []
    model._load(whole.state_dict(), "test")
    dict(whole.named_modules())[last].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET.values())
    with torch.no_grad():
        whole((images - mean) / std)
        expected = seen[0] if seen[0].ndim == 2 else seen[0].mean((2, 3))
        torch.testing.assert_close(model.features(images), expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(model(model.features(images)), model(images))


@pytest.mark.parametrize("backbone", ["shufflenet_v2_x0_5", "squeezenet1_1", "resnet18", "mobilenet_v3_small"])
def test_the_mean_of_the_score_map_is_the_logits(backbone: str) -> None:
    model, images = small(backbone), torch.rand(2, 3, 70, 100)
    with torch.no_grad():
        scores = model.logit_map(images)
        assert (scores.shape[1], scores.shape[2] < scores.shape[3]) == (2, True)
        torch.testing.assert_close(scores.mean((2, 3)), model(images), rtol=1e-4, atol=1e-5)


def test_features_of_a_fixed_number_of_places_give_no_score_map() -> None:
    with pytest.raises(ConfigError, match="alexnet"), torch.no_grad():
        small("alexnet").logit_map(torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("settings", "shape", "error", "key"),
    [
        ({"backbone": "resnet19"}, (3, 64, 64), ConfigError, "resnet18"),
        ({"backbone": "fcn_resnet50"}, (3, 64, 64), ConfigError, "model.backbone"),  # of another task
        ({"backbone": "resnet18"}, (4, 64, 64), ConfigError, "4 x 64"),
        ({"backbone": "resnet18"}, (3, 64), ConfigError, "3 x 64"),
        ({"backbone": "resnet18", "head": [0]}, (3, 64, 64), ConfigError, "model.head"),
        ({"backbone": "resnet18", "dropout": 0.5}, (3, 64, 64), ConfigError, "model.dropout"),
        ({"backbone": "vit_b_16"}, (3, 64, 64), GeometryError, "data.size=224"),
        ({"backbone": "vit_b_16", "weights": "IMAGENET1K_SWAG_E2E_V1"}, (3, 224, 224), GeometryError, "data.size=384"),
        ({"backbone": "squeezenet1_1"}, (3, 4, 4), ConfigError, "3 x 4 x 4"),  # smaller than a pooling window
    ],
)
def test_what_cannot_be_is_told(
    settings: dict[str, object], shape: tuple[int, ...], error: type[ConfigError], key: str
) -> None:
    with pytest.raises(error, match=key):
        build_model({"_target_": "cnnlab.models.Pretrained"} | settings, shape, 2, seed=0)


def test_building_needs_no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    small()
    assert list(tmp_path.iterdir()) == []


def equal(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_file(suffix: str, tmp_path: Path) -> None:
    whole, path = models.shufflenet_v2_x0_5(), tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(whole.state_dict(), path)
    else:
        save_file(whole.state_dict(), path)
    model = small(weights=str(path))
    head = {name: tensor.clone() for name, tensor in model.head.state_dict().items()}
    model.load_initial()
    assert equal(model.backbone, whole)
    assert all(torch.equal(tensor, head[name]) for name, tensor in model.head.state_dict().items())


def write_text(path: Path) -> None:
    path.write_text("not weights")


def write_word(path: Path) -> None:
    path.write_text("hello")  # to the reader of pickles: the memo 101, a KeyError


def write_code(path: Path) -> None:
    torch.save({"a": os.system}, path)


def write_numbers(path: Path) -> None:
    torch.save({"epoch": 3}, path)


def write_another(path: Path) -> None:
    torch.save(models.resnet18().state_dict(), path)


def write_larger(path: Path) -> None:
    """Every tensor of the small one is in it, of the same name; not all of the same shape."""
    torch.save(models.shufflenet_v2_x1_0().state_dict(), path)


def write_more(path: Path) -> None:
    torch.save(models.shufflenet_v2_x0_5().state_dict() | {"stage9.weight": torch.zeros(1)}, path)


@pytest.mark.parametrize("write", [write_text, write_word, write_code, write_numbers, write_another, write_larger, write_more])
@pytest.mark.parametrize("suffix", [".pth"])
def test_files_that_hold_something_else(write: "object", suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    write(path)  # type: ignore[operator]
    with pytest.raises(DataError, match=r"model\.weights="):
        small(weights=str(path)).load_initial()


def test_a_text_named_safetensors(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_text("not weights")
    with pytest.raises(DataError, match="cannot be read"):
        small(weights=str(tmp_path / "weights.safetensors")).load_initial()


@pytest.mark.parametrize("kind", ["bytes", "no numbers", "sparse", "packed"])
def test_weights_that_are_none(kind: str, tmp_path: Path) -> None:
    path, state = tmp_path / "weights.pth", models.shufflenet_v2_x0_5().state_dict()
    if kind in ("bytes", "no numbers"):
        torch.save({name: value.byte() if kind == "bytes" else value * math.nan for name, value in state.items()}, path)
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed,
            packed.open("archive/data/0", "w") as file,
        ):
            for _ in range(450):
                file.write(bytes(1 << 20))
    with pytest.raises(DataError, match=r"model\.weights="):
        small(weights=str(path)).load_initial()


def test_weights_that_nothing_names() -> None:
    with pytest.raises(ConfigError, match="IMAGENET1K_V1, imagenet, none"):
        small(weights="imagenet1k").load_initial()


def test_without_network_the_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr("torch.hub.urlopen", offline)
    with pytest.raises(DataError, match=rf"{tmp_path}/hub/checkpoints/shufflenet\S+\.pth.*TORCH_HOME"):
        small(weights="imagenet").load_initial()


def test_what_may_not_be_downloaded_is_not_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", pytest.fail)
    with pytest.raises(DataError, match=r"data\.download=false"):
        small(weights="imagenet").load_initial(download=False)


@pytest.mark.parametrize("content", [b"PK cut off", b"", b"<!DOCTYPE html>"])
def test_a_damaged_file_of_the_cache_is_named(content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    (tmp_path / "hub/checkpoints" / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}.*damaged"):
        small(weights="imagenet").load_initial()


@pytest.mark.real_data
def test_the_real_weights_name_a_photo_as_torchvision_does() -> None:
    """MobileNetV2 of ImageNet, where TORCH_HOME has it: its features through torchvision's own last layer, in float64."""
    weights = models.MobileNet_V2_Weights.IMAGENET1K_V1
    if not (Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]).exists():
        pytest.skip(f"needs {weights.url.rpartition('/')[2]} under TORCH_HOME, which is {torch.hub.get_dir()}")
    whole, model = models.mobilenet_v2(weights=weights).eval().double(), Pretrained("mobilenet_v2", (3, 224, 224), 2).eval()
    model.load_initial()
    images: Tensor = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in IMAGENET.values())
    with torch.no_grad():
        expected = whole((images - mean) / std)
        found = whole.classifier(model.features(images.float()).double())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)  # float32 against float64, 52 layers
