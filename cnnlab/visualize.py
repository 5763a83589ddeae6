"""`python -m cnnlab.visualize RUN [WHAT ...] [--image FILE ...]`: look inside a trained network, as pictures."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cnnlab import cli
from cnnlab.config import trust
from cnnlab.config.schema import RESIZE
from cnnlab.errors import ConfigError, folded, printable, suggest
from cnnlab.plots import rendered, require_matplotlib
from cnnlab.tracking import files

if TYPE_CHECKING:
    from cnnlab.data.pictures import Resize
    from cnnlab.gallery import Gallery

HELP = """Look inside a trained network: its filters, what it makes of images, where it
looks, what it confuses. Figures are written to RUN/visuals and listed one per line.

  python -m cnnlab.visualize RUN                   every figure that applies
  python -m cnnlab.visualize RUN filters maximal   some figures, listed below
  python -m cnnlab.visualize RUN gradcam --image cat.jpg --image dog.jpg
  python -m cnnlab.visualize RUN activations --layer blocks.1.conv
  python -m cnnlab.visualize RUN --layers          layer names for --layer
  python -m cnnlab.visualize RUN --to slides --svg     elsewhere, as SVG
  python -m cnnlab.visualize RUN data.root=DIR evaluation.weights=best
  python -m cnnlab.visualize RUN trainer.device=cpu trust=mine

{}

RUN is the directory of a run, or last. Without --image the run's test images
are shown. Files of any size are resized to the training size (data.resize).
"""
WHAT = {
    "filters": "the weights of the first convolution, or of --layer",
    "activations": "the activation maps of an image, layer by layer",
    "maximal": "images that activate a map most: a synthetic one and test images",
    "occlusion": "where covering the image lowers log-odds; with the deletion check",
    "gradcam": "which places support the class; with the deletion check",
    "confusion": "the confusion matrix of the test images",
    "mistakes": "the most confident wrong predictions, or the largest errors",
    "classes": "labeled training images of each class",
    "curves": "learning curves: training against validation and test",
    "embedding": "the test images as points; also for TensorBoard's projector",
}
DPI = 120
KEYS = ("data.root", "data.resize", "evaluation.weights", "trainer.device")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    line = cli.parse(arguments, ("--help", "-h", "--svg", "--layers"), ("--image", "--layer", "--to"))
    if {"--help", "-h"} & set(line.options):
        cli.print_help(HELP.format("\n".join(f"  {name:<13}{what}" for name, what in WHAT.items())))
        return 0
    trusted, overrides = trust.split(line.overrides)
    settings = cli.settings(overrides, KEYS, "visualize")
    if not line.words:
        raise ConfigError("visualize: expected a run, such as last or outputs/fashion-lenet/2026-11-20_10-11-12")
    run, *words = line.words
    for word in words:
        if word not in WHAT:
            mend = f"--image {word}" if Path(word).is_file() else f"one of {', '.join(WHAT)}.{suggest(word, WHAT)}"
            raise ConfigError(f"{word}: no such figure; expected {mend}")
    require_matplotlib("visualize")
    cli.tell_loading("torch and the run")
    from cnnlab import load
    from cnnlab.gallery import Gallery
    from cnnlab.training.runtime import keep_freed_memory

    keep_freed_memory()
    opened = load(run, settings.get("evaluation.weights"), settings.get("trainer.device", "auto"), trusted)
    resize = settings.get("data.resize") or opened.resize or "crop"
    if resize not in RESIZE:
        raise ConfigError(f"data.resize={resize}: expected one of {', '.join(RESIZE)}")
    folder = Path(line.options.get("--to") or opened.directory.path / "visuals")
    pictures = [Path(name).expanduser() for name in line.values.get("--image", ())]
    form = "svg" if "--svg" in line.options else "png"
    gallery = Gallery(opened, pictures, line.options.get("--layer"), cast("Resize", resize), settings.get("data.root"), folder)
    if "--layers" in line.options:
        for stage in gallery.stages:
            print(f"{stage.name}  {stage.size}")
        return 0
    if "--to" not in line.options and folder.is_symlink():
        raise ConfigError(f"{folder}: a symbolic link, which cnnlab does not write through; name a folder with --to")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ConfigError(f"--to {folder}: a file; name a folder") from None
    return show(gallery, words or [*WHAT], form)


def show(gallery: "Gallery", words: Sequence[str], form: str) -> int:
    """Write the figures of each kind, print a line for each, and return the exit code: 2 if nothing could be shown."""
    from cnnlab.gallery import NotApplicableError

    written = 0
    for word in dict.fromkeys(words):
        try:
            for shown in gallery.show(word):
                name = f"{shown.name}.{form}"
                files.write_atomic(gallery.folder / name, rendered(shown.figure, form, dpi=DPI))
                if not written:
                    print(f"in {printable(str(gallery.folder))}:")
                _tell(name, shown.said)
                written += 1
        except NotApplicableError as error:
            _tell(word, f"not drawn: {error}")
    return 0 if written else 2


def _tell(name: str, said: str) -> None:
    line = f"  {printable(name):<25}  {printable(said)}"
    print(folded(line, shutil.get_terminal_size().columns) if sys.stdout.isatty() else line, flush=True)


if __name__ == "__main__":
    sys.exit(cli.run("visualize", sys.argv[1:]))
