"""torchvision classifiers with a new head. Building one loads no weights; for a new run, `load_initial` does."""

import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cnnlab.errors import DISK_FULL, ConfigError, DataError, GeometryError, note, suggest
from cnnlab.models.blocks import check_rate
from cnnlab.models.initializers import initialize
from cnnlab.models.layers import dense_stack

CLASSIFIERS = ("fc", "classifier", "heads", "head")  # torchvision's names of the last layers
AUXILIARY = ("aux1", "aux2", "AuxLogits")  # further outputs of GoogLeNet and Inception v3, for training from scratch
FIXED_SIZE = ("vit_", "maxvit_")  # the classifiers that take images of only one size
LARGER, SLACK = 32, 1 << 28  # a file, classifier included, has at most LARGER times the backbone's bytes, plus SLACK
LARGE = (512, 256)  # pixels: enough for the last maps of every classifier to have several positions
BEFORE_LINEAR = (nn.LayerNorm, nn.Flatten, nn.AdaptiveAvgPool2d)  # layers of a classifier that still compute features


class Pretrained(nn.Module):
    """A torchvision classifier up to its pooled features (`backbone`), then hidden dense layers and the output (`head`).

    Args:
        backbone: the name of a classifier, one of torchvision.models.list_models(module=torchvision.models).
        input_shape: C, H, W of the images; a gray image is repeated as three equal channels.
        num_outputs: the number of logits.
        weights: of the backbone, loaded when a new run begins: imagenet (IMAGENET1K_V1, or else the first available),
            another of torchvision's names (IMAGENET1K_V2), a file (a state_dict, .safetensors or .pth), or none.
        head: widths of the hidden dense layers, ReLU after each; initial weights as in `MLP`.
        dropout: the share of values set to zero after each hidden layer.

    The mean and standard deviation that the backbone's weights expect are part of the network.

    Input shape: N x C x H x W, pixels from 0 to 1; or N x F, features of the backbone, which is then skipped.
    Output shape: N x num_outputs.

    Raises:
        ConfigError: no such classifier, or an invalid value. GeometryError: the classifier takes only images of another size.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str,
        input_shape: tuple[int, ...],
        num_outputs: int,
        weights: str = "imagenet",
        head: Sequence[int] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        from torchvision import models  # here, since it takes 3 s

        names = models.list_models(module=models)
        if backbone not in names:
            raise ConfigError(f"model.backbone={backbone}: not a torchvision classifier.{suggest(backbone, names)}")
        if len(input_shape) != 3 or input_shape[0] not in (1, 3):
            got = " x ".join(map(str, input_shape))
            raise ConfigError(f"model.backbone={backbone}: takes images of 1 or 3 channels, C x H x W, got {got}")
        if any(width < 1 for width in head):
            raise ConfigError(f"model.head={list(head)}: expected widths of 1 or more")
        check_rate(dropout, "model.dropout")
        if dropout and not head:
            raise ConfigError(
                f"model.dropout={dropout}: applies to hidden layers, and model.head=[] has none; try model.head=[256]"
            )
        self.name, self.weights, self.image_size = backbone, weights, tuple(input_shape[1:])
        self.entries = {entry.name: entry for entry in models.get_model_weights(backbone)}
        expects = self._entry().transforms()
        own = expects.crop_size[0]
        if backbone.startswith(FIXED_SIZE) and self.image_size != (own, own):
            got = " x ".join(map(str, self.image_size))
            raise GeometryError(f"model.backbone={backbone}: takes only {own} x {own}, got {got} (folders: data.size={own})")
        self.backbone, self.num_features = headless(backbone, own)
        self.head = dense_stack(self.num_features, head, num_outputs, "relu", dropout)
        initialize(self.head, "glorot_uniform", 0.0)
        for name, values in (("mean", expects.mean), ("std", expects.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x num_outputs."""
        logits: Tensor = self.head(images if images.ndim == 2 else self.features(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """The features that the backbone computes from images, N x F."""
        return torch.flatten(self.backbone((images - self.mean) / self.std), 1)

    def logit_map(self, images: Tensor) -> Tensor:
        """Class scores at each position, N x num_outputs x H' x W': the head applied to each position alone.

        Without hidden layers, their mean is the logits.

        Raises:
            ConfigError: the features are not the means of maps over their positions. GeometryError: the images are too small.
        """
        last: Tensor | None = None  # the last maps with num_features channels and more than one position

        def called(_: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal last
            several = isinstance(output, Tensor) and output.ndim == 4 and output.shape[2:].numel() > 1
            last = output if several and output.shape[1] == self.num_features else last

        hooks = [module.register_forward_hook(called) for module in self.backbone.modules()]
        try:
            features = self.features(images)
        finally:
            for hook in hooks:
                hook.remove()
        if last is None or not torch.allclose(last.mean((2, 3)), features, rtol=1e-3, atol=1e-4):
            large = torch.zeros(1, images.shape[1], *LARGE, device=images.device)
            if last is None and images.shape[2:] != large.shape[2:] and self.logit_map(large) is not None:
                asked = " x ".join(map(str, images.shape[2:]))
                raise GeometryError(f"{asked}: too small, the last maps of {self.name} are 1 x 1; scale the picture up")
            raise ConfigError(f"model.backbone={self.name}: gives no map of scores; its features are not averages of maps")
        return cast(Tensor, self.head(last.movedim(1, -1))).movedim(-1, 1)

    def load_initial(self, download: bool = True) -> None:
        """Load the backbone's weights; `download` allows torchvision to download missing ones.

        Raises:
            ConfigError: no such weights. DataError: they cannot be downloaded or read, or are another network's.
        """
        if self.weights == "none":
            return
        if self.weights == "imagenet" or self.weights in self.entries:
            self._load(self._fetched(self._entry(), download), self._entry().name)
        else:
            own = sum(tensor.nbytes for tensor in self.backbone.state_dict().values())
            names = (*self.entries, "imagenet", "none")
            self._load(_state_dict(Path(self.weights).expanduser(), names, SLACK + LARGER * own), self.weights)
        own = self._entry().transforms().crop_size[0]
        if self.image_size != (own, own):
            height, width = self.image_size
            note(
                f"{self.name}: its weights were trained on {own} x {own}, but these images are {height} x {width}; "
                f"{own} x {own} (folders: data.size={own}) may score higher, at {own**2 / (height * width):.1f} times the work"
            )

    def _entry(self) -> Any:
        """torchvision's entry of the weights; for a file or none, its first entry, for the normalization."""
        return self.entries.get(self.weights) or self.entries.get("IMAGENET1K_V1") or next(iter(self.entries.values()))

    def _fetched(self, entry: Any, download: bool) -> dict[str, Tensor]:
        """Get the weights from torchvision, which downloads and caches them and, for older files, renames them."""
        from torchvision import models

        file = Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rpartition("/")[2]
        mend = "put the file there, set TORCH_HOME to a folder with hub/checkpoints/ that holds it, or use model.weights=none"
        if not (download or file.exists()):
            raise DataError(f"{file}: missing, and data.download=false forbids downloading {entry.url}; {mend}")
        try:
            with torch.random.fork_rng(devices=[]):
                found: dict[str, Tensor] = models.get_model(self.name, weights=entry).state_dict()
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            reason = getattr(error, "reason", error)
            raise DataError(f"{file}: missing, and {entry.url} cannot be downloaded ({reason}); {mend}") from error
        except Exception as error:  # a proxy's page or an empty file, as in _state_dict
            raise DataError(f"{file}: damaged ({type(error).__name__}); delete it and run again") from error
        return found

    def _load(self, given: Mapping[str, Tensor], source: str) -> None:
        """Copy weights into the backbone, except those of torchvision's own classifier and auxiliary outputs."""
        own = self.backbone.state_dict()
        spare = tuple(f"{name}." for name in (*CLASSIFIERS, *AUXILIARY))
        for name in (*own, *(name for name in given if name not in own and not name.startswith(spare))):
            if name.endswith("num_batches_tracked") and name not in given:  # files from before torch 0.4.1
                continue
            if name not in given or name not in own or given[name].shape != own[name].shape:
                there, here = (" x ".join(map(str, side[name].shape)) if name in side else "missing" for side in (given, own))
                what = f"{name} is {there} there, but {here} in {self.name}"
                raise DataError(f"model.weights={source}: of another network, not {self.name}: {what}")
            if given[name].is_floating_point() != own[name].is_floating_point() or not bool(torch.isfinite(given[name]).all()):
                raise DataError(f"model.weights={source}: {name} is {given[name].dtype}, or holds nan or infinity")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(given.get(name, tensor))


def headless(name: str, image_size: int) -> tuple[nn.Module, int]:
    """Build a torchvision classifier, randomly initialized, without the layers after its pooled features; also their number.

    Names stay torchvision's, so that its state_dicts fit. image_size: for vision transformers.
    """
    from torchvision import models

    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True, "transform_input": True}
    if name.startswith("vit_"):
        options = {"image_size": image_size}
    network = models.get_model(name, **options)
    place = next(place for place in CLASSIFIERS if hasattr(network, place))
    classifier = getattr(network, place)
    layers = list(classifier.named_children()) or [("", classifier)]
    first = next(layer for _, layer in layers if isinstance(layer, nn.Linear | nn.Conv2d))
    kept = takewhile(lambda item: not isinstance(item[1], nn.Linear), layers)
    setattr(network, place, nn.Sequential(OrderedDict((at, layer) for at, layer in kept if isinstance(layer, BEFORE_LINEAR))))
    return network, first.in_features if isinstance(first, nn.Linear) else first.in_channels


def _state_dict(path: Path, names: Sequence[str], at_most: int) -> dict[str, Tensor]:
    """Read the tensors in a file of at most `at_most` bytes, packed and unpacked; runs no code from the file."""
    if not path.is_file():
        raise ConfigError(f"model.weights={path}: no such file, nor one of {', '.join(sorted(names))}")
    try:
        size = path.stat().st_size
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                size = max(size, sum(one.file_size for one in packed.infolist()))
        if size > at_most:
            raise OSError(f"{size / 2**20:,.0f} MiB, too large for this network")
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (
        Exception
    ) as error:  # if the file is not a pickle, torch's reader may raise anything: KeyError, IndexError, struct.error
        plain = isinstance(error, SafetensorError | OSError)
        reason = str(error).splitlines()[0][:80] if plain else "damaged, or not only tensors"
        raise DataError(
            f"model.weights={path}: expected a state_dict, .safetensors or .pth; cannot be read: {reason}"
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise DataError(f"model.weights={path}: expected a state_dict, a mapping of names to tensors only")
    return dict(content)
