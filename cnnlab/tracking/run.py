"""The run directory: the record of a run. Its file names are defined here and nowhere else. Does not import torch."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cnnlab import config
from cnnlab.config import trust
from cnnlab.config.schema import Config
from cnnlab.errors import CheckpointError, ConfigError, ResourceError, RunTakenError, as_known
from cnnlab.reading import read_json, read_json_lines
from cnnlab.status import Status
from cnnlab.tracking import files
from cnnlab.tracking.records import Epoch, Result

COMMAND = "CNNLAB_COMMAND"  # the environment variable with the command that began a sweep, for its jobs


class RunDirectory:
    """The directory of a run, written by one process at a time.

    Attributes are the paths of its files (docs/TRAINING.md, "What a run leaves"): config, environment, metrics, result,
    predictions, last, best.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.jsonl"
        self.result = path / "result.json"
        self.predictions = path / "predictions.safetensors"
        self.last = path / "last.safetensors"
        self.best = path / "best.safetensors"

    @property
    def quoted(self) -> str:
        """The name, quoted for a shell."""
        return shlex.quote(self.name)

    @property
    def name(self) -> str:
        """The path as a user would type it: relative to the current directory if it is inside."""
        path = self.path.resolve()
        return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

    @property
    def label(self) -> str:
        """A short name for figures: at most the last two folders of the path."""
        return "/".join(Path(self.name).parts[-2:]) or self.path.resolve().name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing here until this one is done or dies.

        Raises:
            RunTakenError: another process is training this run.
        """
        with ExitStack() as held:
            try:
                held.enter_context(files.exclusive(self.path / ".lock"))
            except BlockingIOError:
                message = f"{self.name}: another process is training this run; wait for it, or stop it"
                raise RunTakenError(message) from None
            for left in self.path.glob(".*.tmp"):  # by a process that was killed while writing them
                left.unlink()
            yield

    def is_locked(self) -> bool:
        """Whether another process is training this run."""
        try:
            with files.exclusive(self.path / ".lock", create=False):
                return False
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True

    def begin(self, cfg: Config, record: dict[str, Any]) -> None:
        """Write config.yaml and environment.json of a new run; `record` is added to the latter."""
        files.write_json(self.environment, environment() | record)
        files.write_atomic(self.config, config.to_yaml(cfg).encode())

    def record_failure(self, cfg: Config, cause: str) -> None:
        """Record that a sweep's job failed before its first step: its configuration and the cause, no environment."""
        self.write_result(Result(Status.FAILED, cause))
        files.write_atomic(self.config, config.to_yaml(cfg).encode())

    def reopen(self, cfg: Config) -> None:
        """Remove the result of a run that is being resumed, and write its configuration, which may have a later end."""
        self.result.unlink(missing_ok=True)
        files.write_atomic(self.config, config.to_yaml(cfg).encode())

    def write_result(self, result: Result) -> None:
        """Write result.json."""
        files.write_json(self.result, result.content())

    def read_result(self) -> Result | None:
        """Read result.json; None if there is none yet.

        Raises:
            CheckpointError: it is damaged.
        """
        content = read_json(self.result)
        try:
            return None if content is None else Result.of_content(content)
        except CheckpointError as error:
            raise CheckpointError(f"{self.result}: {error}") from error

    def read_epochs(self) -> list[Epoch]:
        """Read the epochs in metrics.jsonl so far.

        Raises:
            CheckpointError: a line is damaged.
        """
        lines = read_json_lines(self.metrics)
        try:
            return [Epoch.of_line(line) for line in lines]
        except CheckpointError as error:
            raise CheckpointError(f"{self.metrics}: {error}") from error

    def read_environment(self) -> dict[str, Any]:
        """Read environment.json; empty if there is none."""
        return read_json(self.environment) or {}

    def recorded(self, section: str) -> dict[str, Any]:
        """Read a section of environment.json ("choices", "data" or "packages"); empty if it is not a mapping."""
        found = self.read_environment().get(section)
        return found if isinstance(found, dict) else {}

    def varied(self) -> list[str]:
        """Read the keys in which the jobs of this run's sweep differ; empty for a run outside a sweep."""
        found = self.read_environment().get("varied")
        return [str(key) for key in found] if isinstance(found, list) else []

    def keep_metrics(self, step: int, steps_per_epoch: int, total_steps: int) -> None:
        """Drop the lines of epochs that a run continued from `step` will train again."""
        if self.metrics.exists():
            kept = [
                epoch.line()
                for epoch in self.read_epochs()
                if epoch.step <= step and (epoch.step % steps_per_epoch == 0 or epoch.step == total_steps)
            ]
            files.write_json_lines(self.metrics, kept)

    def is_unused(self) -> bool:
        """Whether the directory holds only what a run leaves when it is killed before it begins."""
        left = set(self.path.glob(".*.tmp"))  # of the first files that it wrote
        names = {path.name for path in self.path.iterdir() if path not in left}
        return names <= {".lock", self.environment.name}

    def discard(self) -> None:
        """Remove a run that failed before it began to train; other files stay."""
        for name in (".lock", self.config.name, self.environment.name):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):  # not empty, or not there
            self.path.rmdir()


def claim(path: Path, may_rename: bool) -> Path:
    """Create the directory of a new run, or reuse one that is left from a run that never began.

    Args:
        path: the requested directory.
        may_rename: append _2, _3, ... if it is taken (two runs started in the same second).

    Raises:
        RunTakenError: it already exists, is not empty, and may not be renamed. ConfigError: it cannot be created.
    """
    try:
        files.make_directory(path.parent)
        for number in range(1, 1000):
            candidate = path if number == 1 else path.with_name(f"{path.name}_{number}")
            try:
                candidate.mkdir()
                files.sync_directory(path.parent)  # or a power failure could lose the directory
                return candidate
            except FileExistsError:
                if may_rename:
                    continue
                if candidate.is_dir() and RunDirectory(candidate).is_unused():
                    return candidate
                if not candidate.is_dir():
                    raise RunTakenError(f"{candidate}: is not a directory; choose another hydra.run.dir") from None
                going_on = f"continue it: python -m cnnlab.train resume={shlex.quote(str(candidate))}"
                message = f"{candidate}: holds another run or other files; choose another hydra.run.dir, or {going_on}"
                raise RunTakenError(message) from None
    except OSError as error:
        if isinstance(as_known(error), ResourceError):
            raise
        raise ConfigError(f"{path}: cannot be created ({error.strerror}); choose another hydra.run.dir") from error
    raise RunTakenError(f"{path}: is taken, and so are a thousand numbered names")


@contextmanager
def begun(wanted: Path, may_rename: bool) -> Iterator[RunDirectory]:
    """Create (see `claim`) and lock the directory of a new run; remove it if the run never begins."""
    run = RunDirectory(claim(wanted, may_rename))
    with run.locked():
        try:
            yield run
        finally:
            if not run.config.exists():
                run.discard()
                if may_rename:
                    with suppress(OSError):  # other runs are in it
                        run.path.parent.rmdir()


def find_run(path: str) -> Path:
    """Find the run that `path` names: itself, the newest run in a folder of runs or, for "last", the newest below outputs.

    Raises:
        CheckpointError: there is none, or the folder is a sweep, whose runs are not interchangeable.
    """
    last = path == "last" and not Path(path).exists()
    folder = Path("outputs") if last else Path(path)
    if not last and (not path or not folder.is_dir()):
        what = "is a file" if path and folder.exists() else "no such directory"
        expected = "expected the directory of a run, such as outputs/fashion-lenet/2026-11-20_10-11-12, or last"
        raise CheckpointError(f"run {path!r}: {what}; {expected}")
    if RunDirectory(folder).config.exists():
        return folder
    inside = sorted(
        (
            found
            for pattern in ("*", "*/*", "*/*/*")
            for found in folder.glob(f"{pattern}/config.yaml")
            if not found.parent.name.startswith(".")  # Hydra's own, of another program
        ),
        key=lambda found: found.stat().st_mtime,
    )
    if not inside and last:
        raise CheckpointError("last: no run in outputs yet; train one first, or give the directory of a run")
    if not inside:
        raise CheckpointError(f"{path}: not a run, it has no config.yaml")
    newest = inside[-1].parent
    if (folder / "manifest.json").exists():
        raise CheckpointError(f"{path}: a sweep, not a run; choose one of its {len(inside)}, such as the newest, {newest}")
    return newest


def open_run(path: str, trusted: Sequence[str] = ()) -> tuple[RunDirectory, Config]:
    """Open the run that `path` names (see `find_run`); return it and its configuration, whose code has passed the trust check.

    trusted: packages whose code is trusted (see `cnnlab.config.trust`).

    Raises:
        CheckpointError: it is not a run, or its configuration names code that is not trusted.
    """
    run = RunDirectory(find_run(path))
    cfg = config.read(run.config)
    try:
        trust.check(cfg, trusted)
    except ConfigError as error:
        raise CheckpointError(f"{run.config}: {error}") from error
    return run, cfg


def environment() -> dict[str, Any]:
    """Return everything that a run's exact results may depend on, and the command that started it."""
    packages = ("cnnlab", "torch", "torchvision", "hydra-core", "omegaconf", "numpy", "safetensors", "tensorboard")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in packages},
        "git": _git_revision(),
        "command": (os.environ.get(COMMAND) or shlex.join(sys.argv)).encode(errors="replace").decode(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Return the commit of the code, with "+changes" if there are local changes; None outside a repository."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
