"""What a `data.source` returns: the splits and the class names; and what it declares before anything is read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cnnlab.data.splits import Split

Shape = tuple[int, ...]  # C, H, W of images; C, L of signals; C, D, H, W of clips and voxels
Load = TypeVar("Load", bound=Callable[..., "Source"])


@dataclass(frozen=True)
class Source:
    """What a `data.source` returns: the official splits, in the official order.

    validation: None if the source has no such images; then `data.validation` training images are held out.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]
    validation: Split | None = None

    def splits(self) -> dict[str, Split]:
        """The splits by name."""
        own = {} if self.validation is None else {"validation": self.validation}
        return {"train": self.train, "test": self.test} | own


@dataclass(frozen=True)
class Declared:
    """What is known about a source before it is read. shape: of its images. classes: their names."""

    shape: Shape
    classes: tuple[str, ...]


def declares(describe: Callable[..., Declared]) -> Callable[[Load], Load]:
    """Mark a source with what it will return, so that `python -m cnnlab.summary` need not read it.

    describe: returns the shape and the classes. It takes those of the source's own parameters that it needs, such as `root`
    to list directories, or `shape` and `size` if the result depends on them.
    """

    def mark(load: Load) -> Load:
        load.describe = describe  # type: ignore[attr-defined]
        return load

    return mark
