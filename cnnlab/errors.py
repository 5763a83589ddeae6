"""What a person did or met: one class a kind, one exit code each. Anything else that escapes is a bug (exit code 1)."""

import difflib
import errno
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
NO_MEMORY = ("can't allocate memory", "Storage size calculation overflowed",  # what torch says,
             "failed to map segment")  # and the system  # fmt: skip
TOO_MANY_OPEN = (errno.EMFILE, errno.ENFILE)
KERAS = {"learning_rate": "lr", "validation_split": "validation"}  # its names for keys of ours
INSTALLED_WITH = {  # what cnnlab cannot do without, by the name that is imported
    "torch": "torch", "torchvision": "torchvision", "PIL": "pillow", "numpy": "numpy", "scipy": "scipy", "yaml": "pyyaml",
    "tensorboard": "tensorboard", "safetensors": "safetensors", "rich": "rich", "hydra": "hydra-core", "omegaconf": "omegaconf",
}  # fmt: skip
BAD_PATH = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT,
            errno.ENXIO)  # fmt: skip


def printable(text: str) -> str:
    """Without the control characters that names of files and what stands in files may hold, which would steer a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def is_utf8(text: str) -> bool:
    """Whether it is text: a name that the file system holds in another encoding is not, nor is half a character of JSON's."""
    return text.encode(errors="replace").decode() == text


def short(name: str, length: int) -> str:
    """A name that fits into so many letters, without its middle: names that are long often differ at the end alone."""
    shown, end = printable(name), (length - 1) // 2
    return shown if len(shown) <= length else f"{shown[: length - 1 - end]}…{shown[len(shown) - end :]}"


def cell(text: str) -> str:
    """A cell of text for CSV that no spreadsheet takes for a formula."""
    return printable(f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text)


def note(text: str) -> None:
    """Print a line for a person on stderr, made safe for the terminal; there it is folded at words, but not a command in it."""
    text = printable(text)
    if sys.stderr is not None and sys.stderr.isatty() and len(text) > (width := shutil.get_terminal_size().columns):
        words, command = re.split(r"(?=python -m |pip install |$)", text, maxsplit=1)
        text = "\n".join(filter(None, (folded(words.rstrip(), width), command)))
    print(text, file=sys.stderr, flush=True)


def folded(line: str, width: int) -> str:
    """A line of at most `width` columns as it is; a longer one broken between words, each part under its last column."""
    column = re.match(r"\s*\S.*\s{2,}(?=\S)", line) or re.match(r"\s*", line)
    indent = " " * len(column[0]) if column and len(column[0]) < width * 2 // 3 else " " * 4
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


class CnnlabError(Exception):
    """One line that says what, where, what was expected and how to mend it."""

    exit_code = 2

    def __str__(self) -> str:
        return printable(" ".join(super().__str__().split()))


class ConfigError(CnnlabError):
    """A key, value, file name or combination of them that cannot be used."""


class GeometryError(ConfigError):
    """An image that is too small for the layers it meets."""


class DataError(CnnlabError):
    """A data file that is missing, cut short, or not what its name says."""


class CheckpointError(CnnlabError):
    """A run directory or checkpoint that cannot be read."""


class ResourceError(CnnlabError):
    """The disk or the memory gave out."""

    exit_code = 4


class RunTakenError(CnnlabError):
    """The run directory belongs to another run."""

    exit_code = 5


class ExportError(CnnlabError):
    """A network that cannot be exported, or whose file says other things than it."""


class FailedJobsError(CnnlabError):
    """Some jobs of a sweep failed; the others are done."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def as_known(error: BaseException) -> CnnlabError | None:
    """The CnnlabError that an exception is, or amounts to when the disk, the memory or the installation caused it; None for a
    bug."""
    if isinstance(error, CnnlabError):
        return error
    if isinstance(error, ModuleNotFoundError) and (package := INSTALLED_WITH.get(error.name or "")):
        return ConfigError(f"{package} is not installed here: pip install {package}")
    if isinstance(error, RuntimeError) and "operator torchvision::" in str(error):
        return ConfigError("torchvision and torch are of versions that do not fit: pip install --upgrade torch torchvision")
    if isinstance(error, OSError) and error.errno is not None:
        place = f"{error.filename}: " if error.filename else ""
        if error.errno in DISK_FULL:
            return ResourceError(f"{place}{error.strerror}; what was saved before is kept: make room and resume the run")
        if error.errno in TOO_MANY_OPEN:
            return ResourceError(f"{place}{error.strerror}; close other programs, or raise the limit (ulimit -n 4096)")
        if error.errno == errno.ELOOP:
            return ConfigError(f"{place}a link, which nothing is written through; put a file or nothing in its place")
        if error.errno == errno.ENOENT and not error.filename:
            return ConfigError("the current directory is there no more; change to another one (cd)")
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
    """While entered, what the disk or the memory does is raised as the CnnlabError that it amounts to."""
    try:
        yield
    except Exception as error:
        known = as_known(error)
        if known is None or known is error:
            raise
        raise known from error


def suggest(word: str, candidates: Iterable[str]) -> str:
    """`" Did you mean a or b?"`, or nothing when no candidate resembles `word` or begins with it."""
    known = list(candidates)
    word = KERAS.get(word, word)
    near = ([word] if word in known else []) or [one for one in known if one.lower() == word.lower()]
    near = near or difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    near = near or [candidate for candidate in known if word and candidate.startswith(word)][:3]
    return f" Did you mean {' or '.join(near)}?" if near else ""
