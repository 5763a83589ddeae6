"""`python -m cnnlab.predict RUN FILES...`: what a run's network predicts for image files."""

import csv
import glob
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from rich.table import Table
from rich.text import Text

from cnnlab import cli
from cnnlab.config import trust
from cnnlab.config.schema import RESIZE
from cnnlab.errors import ConfigError, cell, note, printable
from cnnlab.tracking.console import folding_console
from cnnlab.tracking.files import finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnnlab import OpenedRun
    from cnnlab.data.pictures import Resize

HELP = """Say what is in pictures: their classes with probabilities, or their values.

  python -m cnnlab.predict RUN cat.jpg photos    files and folders
  python -m cnnlab.predict RUN 'photos/*.png'    a pattern; ** matches folders
  python -m cnnlab.predict RUN -                 file names from standard input
  python -m cnnlab.predict RUN photos --top 3    the 3 most probable classes
  python -m cnnlab.predict RUN photos --csv      or --json, an object per line
  python -m cnnlab.predict RUN photos --invert   swap black and white
  python -m cnnlab.predict RUN page.png --map    what is where on it
  python -m cnnlab.predict RUN photos data.resize=pad    or crop, or stretch
  python -m cnnlab.predict RUN photos evaluation.weights=best trainer.device=cpu
  python -m cnnlab.predict RUN photos trust=mine    a run that uses mine.py

RUN is the directory of a run, or last. JPEG, PNG, WebP, BMP, GIF and TIFF of any
size are converted to the size and color of the training images. Files that cannot
be read are listed on stderr, the others are predicted, and the exit code is 2.

--map keeps a picture's size and writes page-map.png, the class scores at each place,
here or in --output FOLDER. A network with a flatten layer must be converted first.
"""
KEYS = ("data.resize", "evaluation.weights", "trainer.device")
MOST_FILES = 200_000  # below one folder: /proc and / hold more, and take minutes to walk through

Answer = list[tuple[str | None, float]]
Row = tuple[str, Answer]


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    line = cli.parse(arguments, ("--help", "-h", "--csv", "--json", "--invert", "--map"), ("--top", "--output"))
    if "--help" in line.options or "-h" in line.options:
        cli.print_help(HELP)
        return 0
    trusted, overrides = trust.split(line.overrides)
    settings = cli.settings(overrides, KEYS, "predict")
    top = cli.top(line) or 1
    if "--csv" in line.options and "--json" in line.options:
        raise ConfigError("--csv and --json: choose one of them")
    folder = _map_folder(line)
    if len(line.words) < 2:
        raise ConfigError("predict: expected a run and then pictures: files, folders, a 'pattern', or - for the standard input")
    cli.tell_loading("torch and the run")
    from cnnlab import load
    from cnnlab.training.task import Regression

    opened = load(line.words[0], settings.get("evaluation.weights"), settings.get("trainer.device", "auto"), trusted)
    resize = settings.get("data.resize") or opened.resize or "crop"
    channels, *sides = opened.description.input_shape
    if len(sides) != 2:
        raise ConfigError(
            f"{opened.directory.name}: takes {' x '.join(map(str, (*sides, channels)))}, not images (height x width x channels)"
        )
    if resize not in RESIZE or channels not in (1, 3):
        raise ConfigError(
            f"data.resize={resize}, {channels} channels: expected one of {', '.join(RESIZE)}, and 1 or 3 channels"
        )
    if folder:
        from cnnlab.score_map import write_maps

        return write_maps(opened, list(_files(line.words[1:])), folder, "--invert" in line.options)
    how = "" if opened.resize is None else ", as in training" if resize == opened.resize else f", in training {opened.resize}"
    note(f"resized to {sides[0]} x {sides[1]}, {'gray' if channels == 1 else 'color'}; data.resize={resize}{how}")

    files = list(_files(line.words[1:]))
    failed: list[str] = []

    def readable() -> Iterator[Row]:
        for file, answer in _answers(opened, files, cast("Resize", resize), "--invert" in line.options):
            if isinstance(answer, str):
                failed.append(file)
                note(f"cannot read {file}: {answer}")
            else:
                yield file, answer[:top]

    _write(readable(), isinstance(opened.task, Regression), "--json" in line.options, "--csv" in line.options)
    if failed:
        note(f"{len(failed):,} of {len(files):,} cannot be read")
    return 2 if failed else 0


def _map_folder(line: cli.CommandLine) -> Path | None:
    """Return the folder for --map, or None without it; raise ConfigError for conflicting options or a file in its place."""
    if "--map" not in line.options:
        if "--output" in line.options:
            raise ConfigError("--output: is the folder for --map; add --map")
        return None
    if found := {"--csv", "--json", "--top"} & set(line.options):
        raise ConfigError(f"--map: writes pictures; leave out {' and '.join(sorted(found))}")
    from cnnlab.plots import require_matplotlib

    require_matplotlib("--map")
    folder = Path(line.options.get("--output") or ".")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output {folder}: a file; name a folder")
    return folder


def _files(words: Iterable[str]) -> Iterator[Path]:
    """Yield the files that the command line names; a word without any is yielded itself, to be reported as unreadable."""
    from cnnlab.data.folder import files_below, tell_ignored
    from cnnlab.data.pictures import SUFFIXES

    for word in words:
        path = Path(word).expanduser()
        if word == "-":
            names = os.fsdecode(sys.stdin.buffer.read()).split("\n")
            if not any(names):
                raise ConfigError("-: no names on the standard input; expected one per line")
            yield from _files(name.rstrip("\r") for name in names if name)
        elif path.is_dir():
            inside = list(itertools.islice(files_below(path), MOST_FILES + 1))
            if len(inside) > MOST_FILES:
                raise ConfigError(f"{path}: more than {MOST_FILES:,} files are below it; name the folders of the pictures")
            pictures = [file for file in inside if file.suffix.lower() in SUFFIXES]
            tell_ignored(path, [str(file.relative_to(path)) for file in inside if file.suffix.lower() not in SUFFIXES])
            yield from pictures or [path]
        elif not os.path.lexists(path) and (matching := sorted(glob.glob(str(path), recursive=True))):
            yield from _files(matching)
        else:
            yield path


def _answers(opened: "OpenedRun", files: Sequence[Path], resize: "Resize", invert: bool) -> Iterator[tuple[str, Answer | str]]:
    """Yield for each file its classes, the most probable first, or its value in regression, or why it cannot be read."""
    from cnnlab.data.pictures import AT_ONCE, decode_all

    decoded = zip(files, decode_all(files, opened.description.input_shape, resize), strict=True)
    while chunk := list(itertools.islice(decoded, AT_ONCE)):
        pictures = [picture for _, picture in chunk if isinstance(picture, np.ndarray)]
        answers = iter(_predict(opened, 255 - np.stack(pictures) if invert else np.stack(pictures)) if pictures else ())
        for file, picture in chunk:
            if isinstance(picture, np.ndarray):
                yield str(file), next(answers)
            else:
                yield str(file), "a folder without pictures" if file.is_dir() else picture.cause


def _predict(opened: "OpenedRun", images: "NDArray[np.uint8]") -> Iterator[Answer]:
    found = opened.predict(images)
    if found.probabilities is None:
        for value in found.predicted.tolist():
            yield [(None, value)]
    else:
        ranked = found.probabilities.sort(stable=True, dim=1, descending=True)
        for row, indices in zip(ranked.values.tolist(), ranked.indices.tolist(), strict=True):
            yield [(opened.classes[index], value) for index, value in zip(indices, row, strict=True)]


def _write(rows: Iterable[Row], regression: bool, as_json: bool, as_csv: bool) -> None:
    """Write JSON lines, CSV or, by default, a table to standard output."""
    heads = ["file", "value"] if regression else ["file", "rank", "class", "probability"]
    if as_json:
        for file, answer in rows:
            classes = [{"class": name, "probability": round(value, 6)} for name, value in answer]
            found = {"value": answer[0][1]} if regression else {"classes": classes}
            print(json.dumps(finite({"file": file} | found)))
    elif as_csv:
        sheet = csv.writer(sys.stdout, lineterminator="\n")
        sheet.writerow(heads)
        for file, answer in rows:
            for rank, (name, value) in enumerate(answer, 1):
                sheet.writerow([cell(file), f"{value:.6g}"] if name is None else [cell(file), rank, cell(name), f"{value:.6f}"])
    else:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for head in (head for head in heads if head != "rank"):
            table.add_column(head, overflow="fold", justify="right" if head in ("value", "probability") else "left")
        for file, answer in rows:
            for rank, (name, value) in enumerate(answer):
                cells = ["" if rank else file, *([] if name is None else [name]), f"{value:.4f}"]
                table.add_row(*(Text(printable(cell)) for cell in cells))
        if table.rows:
            folding_console().print(table)


if __name__ == "__main__":
    sys.exit(cli.run("predict", sys.argv[1:]))
