"""Downloading missing data files from torchvision's mirrors: under a temporary name, checked by md5, then renamed."""

import hashlib
import os
import tarfile
import tempfile
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from cnnlab.errors import DISK_FULL, DataError

# The binary version is next to the Python version that torchvision downloads; its md5 is on the same page.
CIFAR10_ARCHIVE = ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")
TIMEOUT_S = 20


def fetch_idx(folder: Path, name: str, missing: Sequence[str], download: bool) -> None:
    """Download the missing files of MNIST or Fashion-MNIST, as `.gz`, into `folder`.

    Raises:
        DataError: downloading is not allowed, or every mirror fails.
    """
    need = f"{folder} lacks {', '.join(missing)} (each plain or .gz)"
    _require(download, need)
    from torchvision import datasets

    source = getattr(datasets, name)
    sums = dict(source.resources)
    for stem in missing:
        file = f"{stem}.gz"
        fetch([mirror + file for mirror in source.mirrors], folder / file, sums[file], need)


def fetch_cifar10(folder: Path, missing: Sequence[str], download: bool) -> None:
    """Download CIFAR-10's binary version and unpack the missing files into `folder`.

    Raises:
        DataError: downloading is not allowed, or fails.
    """
    need = f"{folder} lacks {', '.join(missing)}"
    _require(download, need)
    from torchvision.datasets import CIFAR10

    name, md5 = CIFAR10_ARCHIVE
    archive = folder.parent / name
    fetch([CIFAR10.url.rpartition("/")[0] + "/" + name], archive, md5, need)
    with tarfile.open(archive) as tar:
        for member in missing:
            data = tar.extractfile(f"cifar-10-batches-bin/{member}")
            assert data is not None
            folder.mkdir(exist_ok=True)
            part = folder / f"{member}.part"
            part.write_bytes(data.read())
            part.replace(folder / member)
    archive.unlink()


def fetch(urls: Sequence[str], path: Path, md5: str, need: str) -> None:
    """Download a file to `path` from the first of `urls` that has the right bytes, showing a progress bar.

    Args:
        urls: the same file on several mirrors.
        path: the destination, written under a temporary name next to it and renamed once the md5 is right.
        md5: of the file, hexadecimal.
        need: what is missing, for the error message.

    Raises:
        DataError: every mirror failed, or the directory cannot be written. OSError: the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        raise DataError(f"{need}, and {path.parent} cannot be written: {error.strerror}; {_mend()}") from error
    failures = []
    try:
        for url in urls:
            try:
                found = _stream(url, Path(part))
            except (OSError, HTTPException) as error:  # urllib's errors and time-outs are OSErrors
                if isinstance(error, OSError) and error.errno in DISK_FULL:
                    raise
                failures.append(f"{url}: {getattr(error, 'reason', error)}")
                continue
            if found == md5:
                os.chmod(part, 0o644)
                os.replace(part, path)
                return
            failures.append(f"{url}: md5 {found}, expected {md5}")
        raise DataError(f"{need}, and downloading failed ({'; '.join(failures)}); {_mend()}")
    finally:
        Path(part).unlink(missing_ok=True)


def _stream(url: str, path: Path) -> str:
    """Download `url` to `path`; return the md5 of what was received."""
    digest = hashlib.md5(usedforsecurity=False)
    columns = (TextColumn("downloading {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, path.open("wb") as file:
        length = response.headers.get("Content-Length")
        with Progress(*columns, transient=True, console=Console(stderr=True)) as progress:
            task = progress.add_task(url.rpartition("/")[2], total=int(length) if length else None)
            while chunk := response.read(1 << 18):
                file.write(chunk)
                digest.update(chunk)
                progress.advance(task, len(chunk))
    return digest.hexdigest()


def _require(download: bool, need: str) -> None:
    if not download:
        raise DataError(f"{need}, and data.download=false forbids downloading; {_mend()}")


def _mend() -> str:
    return "put them there, or set data.root or CNNLAB_DATA to another directory; data=digits needs no files"
