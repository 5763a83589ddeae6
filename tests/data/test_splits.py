"""Every kind of split gives the same images; none holds more of them in memory than it says."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnlab.data import InMemory, MemoryMapped, Source, Split, all_images, take
from cnnlab.data.splits import chunks
from cnnlab.errors import DataError
from cnnlab.models.preprocess import Preprocess
from cnnlab.training.runtime import Runtime
from cnnlab.training.scoring import outputs_of
from cnnlab.training.step import Step, build_optimizer
from cnnlab.training.task import Multiclass

KINDS = ["in memory", "strided", "mapped", "mapped, strided", "saved by numpy", "view", "view of a view", "view of mapped"]


def ten_images(dtype: torch.dtype = torch.uint8, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (10, *(shape or (3, 4, 5))), dtype=torch.uint8, generator=generator).to(dtype)


def mapped(folder: Path, images: Tensor, labels: Tensor) -> MemoryMapped:
    path = folder / "images"
    images.numpy().tofile(path)
    return MemoryMapped(np.memmap(path, np.uint8, "r", shape=tuple(images.shape)), labels)


def make(kind: str, folder: Path) -> Split:
    """The ten images with the labels 0, 10, ... 90 as a split of that kind."""
    images, labels = ten_images(), torch.arange(10) * 10
    backwards = torch.arange(9, -1, -1)
    if kind == "in memory":
        return InMemory(images, labels)
    if kind == "strided":
        return InMemory(images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), labels)
    if kind == "mapped":
        return mapped(folder, images, labels)
    if kind == "mapped, strided":
        stored = mapped(folder, images.permute(0, 2, 3, 1).contiguous(), labels)
        return MemoryMapped(stored.images.transpose(0, 3, 1, 2), labels)
    if kind == "saved by numpy":
        np.save(folder / "images.npy", images.numpy())
        return MemoryMapped(np.load(folder / "images.npy", mmap_mode="r"), labels)
    reversed_split = InMemory(images[backwards], labels[backwards])
    if kind == "view":
        return take(reversed_split, backwards)
    if kind == "view of mapped":
        return take(mapped(folder, images[backwards], labels[backwards]), backwards)
    more = InMemory(torch.cat([images, images]), torch.cat([labels, labels]))
    return take(take(more, torch.tensor([3, 12, 5, 4, 0, 11, 6, 17, 8, 9])), torch.tensor([4, 5, 1, 0, 3, 2, 6, 7, 8, 9]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gathers_the_same(kind: str, tmp_path: Path) -> None:
    split, expected = make(kind, tmp_path), ten_images()
    assert (len(split), split.shape, split.device) == (10, (3, 4, 5), torch.device("cpu"))
    assert split.labels.tolist() == list(range(0, 100, 10))
    indices = torch.tensor([7, 0, 7, 2])
    for _ in range(2):
        batch = split.gather(indices)
        assert batch.dtype == torch.uint8
        assert torch.equal(batch, expected[indices])
        batch.zero_()  # an augmentation that works in place harms no image
    assert torch.equal(all_images(split), expected)
    assert [len(chunk) for chunk in chunks(split, 4)] == [4, 4, 2]
    assert torch.equal(torch.cat([*chunks(split, 4)]), expected)
    part = take(split, torch.tensor([9, 1]))
    assert part.labels.tolist() == [90, 10]
    assert torch.equal(all_images(part), expected[[9, 1]])


def test_views_copy_nothing_and_do_not_pile_up() -> None:
    whole = InMemory(ten_images(), torch.arange(10))
    twice = take(take(whole, torch.tensor([8, 6, 4])), torch.tensor([2, 0]))
    assert twice.base is whole
    assert twice.indices.tolist() == [4, 8]


def test_on_another_device_labels_stay_and_nothing_is_asked_of_it(tmp_path: Path) -> None:
    for kind in KINDS[:2] + KINDS[5:7]:
        moved = make(kind, tmp_path).to(torch.device("meta"))
        assert moved.gather(torch.zeros(3, dtype=torch.int64, device="meta")).device.type == "meta"  # meta reads no number
        assert moved.labels.tolist() == list(range(0, 100, 10))
    assert make("mapped", tmp_path).to(torch.device("meta")).gather(torch.tensor([1])).device.type == "meta"


def test_what_was_written_to_a_private_mapping_is_kept(tmp_path: Path) -> None:
    ten_images().numpy().tofile(tmp_path / "images")
    private = np.memmap(tmp_path / "images", np.uint8, "c", shape=(10, 3, 4, 5))
    private[3] = 1
    split = MemoryMapped(np.asarray(private[2:]), torch.arange(8))
    for _ in range(2):
        assert (split.gather(torch.tensor([1])) == 1).all()


@pytest.mark.parametrize("shape", [(6,), (6, 2), (6, 2, 2)])
def test_float_features_of_any_shape_reach_the_network_as_they_are(shape: tuple[int, ...]) -> None:
    features = InMemory(ten_images(torch.float32, *shape) - 99, torch.arange(10) % 3)
    split, runtime = take(features, torch.arange(8)), Runtime(torch.device("cpu"), 1, "fp32")
    preprocess, network = Preprocess(torch.zeros(6), torch.ones(6), torch.channels_last), nn.Flatten()
    outputs = outputs_of(nn.Sequential(preprocess, network), split, runtime, 3, 0)
    assert torch.equal(outputs, (ten_images(torch.float32, *shape) - 99)[:8].flatten(1))
    scaled = Preprocess(torch.full((6,), -99.0), torch.full((6,), 2.0), torch.channels_last)(all_images(features))
    assert torch.equal(scaled, ten_images(torch.float32, *shape) / 2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(features.images[0].numel(), 3))
    before = model[1].weight.detach().clone()
    optimizer = build_optimizer({"_target_": "torch.optim.SGD", "lr": 0.1}, model, runtime.device)
    Step(model, optimizer, Multiclass(3), split, split.labels, preprocess, {}, runtime, 0, None)(torch.arange(4), 0, 1.0)
    assert not torch.equal(model[1].weight, before)


SIDE = 150


def photographs(root: str, count: int = 90_000) -> Source:
    """6.1 GB in a sparse file, which takes no place on the disk."""
    os.truncate(f"{root}/photographs", count * 3 * SIDE**2)
    images = np.memmap(f"{root}/photographs", np.uint8, "r", shape=(count, 3, SIDE, SIDE))
    split = MemoryMapped(images, torch.arange(count) % 2)
    return Source(split, take(split, torch.arange(100)), ("cat", "dog"))


def peak_of(code: str, *arguments: str) -> float:
    """GB of resident memory, pages of mapped files among them, that a process of its own needs at most."""
    here = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', Path.cwd())}"
    code += "; print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    line = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(line, env=os.environ | {"PYTHONPATH": here}, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1]) / 1e6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_six_gigabytes_train_in_a_quarter_of_the_memory(tmp_path: Path) -> None:
    """Two tests, since to read 6 GB for the digest takes 10 s or more: all but the digest, and the digest of less."""
    (tmp_path / "photographs").touch()
    code = "import sys; from cnnlab import cli; from cnnlab.data import loading; loading.digest = lambda split: '0'; "
    code += "assert cli.run('train', sys.argv[1:]) == 0"
    settings = [f"data.source._target_={__name__}.photographs", f"data.root={tmp_path}", "data.validation=2000"]
    settings += ["model.blocks=[{conv:4,kernel:5,stride:5}]", "model.hidden=[]", "trainer.steps=20", "trainer.threads=1"]
    assert peak_of(code, *settings, "console=quiet", f"hydra.run.dir={tmp_path / 'run'}") < 1.5
    digest = "import sys, test_splits; from cnnlab.data import content; "
    digest += "content.digest(test_splits.photographs(sys.argv[1], 16_000).train)"
    assert peak_of(digest, str(tmp_path)) < 0.9  # torch alone takes 0.3; the images would be 1.1


def test_each_image_has_one_label() -> None:
    images, labels = torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    for make in (lambda: InMemory(images, labels), lambda: MemoryMapped(images.numpy(), labels)):
        with pytest.raises(DataError, match="3 images and 2 labels"):
            make()
