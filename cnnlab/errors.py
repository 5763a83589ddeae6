"""The errors that users may meet, each class with its exit code. Any other exception that escapes is a bug (exit code 1)."""

import difflib
import errno
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
GONE = (errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.ENODEV, errno.EREMOTEIO, errno.ECONNABORTED,
        errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH)  # a drive that went away  # fmt: skip
NO_MEMORY = ("can't allocate memory", "Storage size calculation overflowed",  # what torch says,
             "failed to map segment")  # and the system  # fmt: skip
TOO_MANY_OPEN = (errno.EMFILE, errno.ENFILE)
KERAS = {"learning_rate": "lr", "validation_split": "validation"}  # Keras's names of our settings
INSTALLED_WITH = {  # required packages, by import name
    "torch": "torch", "torchvision": "torchvision", "PIL": "pillow", "numpy": "numpy", "scipy": "scipy", "yaml": "pyyaml",
    "tensorboard": "tensorboard", "safetensors": "safetensors", "rich": "rich", "hydra": "hydra-core", "omegaconf": "omegaconf",
}  # fmt: skip
BAD_PATH = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT,
            errno.ENXIO, errno.EEXIST, errno.ENOTEMPTY)  # fmt: skip


def printable(text: str) -> str:
    """Replace control characters, which file names and file contents may hold and which could manipulate a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def is_utf8(text: str) -> bool:
    """Whether text is valid Unicode: file names in another encoding and JSON's lone surrogates are not."""
    return text.encode(errors="replace").decode() == text


def short(name: str, length: int) -> str:
    """Shorten a name to `length` characters by cutting its middle: long names often differ only at the end."""
    shown, end = printable(name), (length - 1) // 2
    return shown if len(shown) <= length else f"{shown[: length - 1 - end]}…{shown[len(shown) - end :]}"


def cell(text: str) -> str:
    """Make text safe for a CSV cell: no spreadsheet takes it for a formula."""
    return printable(f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text)


def note(text: str) -> None:
    """Print a line to stderr, safe for a terminal, where it is wrapped between words, except for a command in it."""
    text = printable(text)
    if sys.stderr is not None and sys.stderr.isatty() and len(text) > (width := shutil.get_terminal_size().columns):
        words, command = re.split(r"(?=python -m |pip install |$)", text, maxsplit=1)
        text = "\n".join(filter(None, (folded(words.rstrip(), width), command)))
    print(text, file=sys.stderr, flush=True)


def folded(line: str, width: int) -> str:
    """Wrap a line longer than `width` between words; the following lines are indented to its last column."""
    column = re.match(r"\s*\S.*\s{2,}(?=\S)", line) or re.match(r"\s*", line)
    indent = " " * len(column[0]) if column and len(column[0]) < width * 2 // 3 else " " * 4
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


class CnnlabError(Exception):
    """An error with a message of one line: what, where, what was expected and how to fix it."""

    exit_code = 2

    def __str__(self) -> str:
        return printable(" ".join(super().__str__().split()))


class ConfigError(CnnlabError):
    """A key, value, file name or combination of them that cannot be used."""


class GeometryError(ConfigError):
    """An image that is too small for the network's layers."""


class DataError(CnnlabError):
    """A data file that is missing, truncated, or not what its name says."""


class CheckpointError(CnnlabError):
    """A run directory or checkpoint that cannot be read."""


class ResourceError(CnnlabError):
    """The disk failed, is full or gone, or memory ran out."""

    exit_code = 4


class RunTakenError(CnnlabError):
    """The run directory belongs to another run."""

    exit_code = 5


class ExportError(CnnlabError):
    """A network that cannot be exported, or whose exported file gives different outputs."""


class FailedJobsError(CnnlabError):
    """Some jobs of a sweep failed; the others are done."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def as_known(error: BaseException) -> CnnlabError | None:
    """Return the CnnlabError for an exception, also if the disk, memory or installation caused it; None for a bug."""
    if isinstance(error, CnnlabError):
        return error
    if isinstance(error, ModuleNotFoundError) and (package := INSTALLED_WITH.get(error.name or "")):
        return ConfigError(f"{package} is not installed here: pip install {package}")
    if isinstance(error, RuntimeError) and "operator torchvision::" in str(error):
        return ConfigError("the versions of torch and torchvision do not match: pip install --upgrade torch torchvision")
    if isinstance(error, OSError) and error.errno is not None:
        place = f"{error.filename}: " if error.filename else ""
        if error.errno in (*DISK_FULL, *GONE):
            mend = "reconnect the drive" if error.errno in GONE else "make room"
            return ResourceError(f"{place}{error.strerror}; what was saved before is kept: {mend} and resume the run")
        if error.errno in TOO_MANY_OPEN:
            return ResourceError(f"{place}{error.strerror}; close other programs, or raise the limit (ulimit -n 4096)")
        if error.errno == errno.ELOOP:
            return ConfigError(f"{place}a symbolic link, which cnnlab does not write through; replace or remove it")
        if error.errno == errno.ENOENT and "temporary directory" in (error.strerror or ""):  # Python's tempfile
            return ResourceError("no room for temporary files in /tmp, /var/tmp or here; make room, or set TMPDIR to a folder")
        if error.errno == errno.ENOENT and not error.filename:
            return ConfigError("the current directory no longer exists; change to another one (cd)")
        if error.errno in BAD_PATH:
            return ConfigError(f"{place}{error.strerror}; check the path and its permissions, or choose another")
    text = str(error)
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(words in text for words in NO_MEMORY)
    ):
        detail = text.splitlines()[0] if text else "no more memory"
        return ResourceError(f"out of memory ({detail}); try a smaller trainer.batch_size, evaluation.batch_size or network")
    return None


@contextmanager
def known_errors() -> Iterator[None]:
    """Context manager that raises disk, memory and installation errors as the CnnlabError of `as_known`."""
    try:
        yield
    except Exception as error:
        known = as_known(error)
        if known is None or known is error:
            raise
        raise known from error


def suggest(word: str, candidates: Iterable[str]) -> str:
    """Return `" Did you mean a or b?"`, or "" if no candidate resembles `word` or begins with it."""
    known = list(candidates)
    word = KERAS.get(word, word)
    near = ([word] if word in known else []) or [one for one in known if one.lower() == word.lower()]
    near = near or difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    near = near or [candidate for candidate in known if word and candidate.startswith(word)][:3]
    return f" Did you mean {' or '.join(near)}?" if near else ""
