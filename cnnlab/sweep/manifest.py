"""The manifest of a sweep, manifest.json: its jobs, and how far each has come. Every job writes its own entry."""

import dataclasses
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnlab.errors import CheckpointError, DivergedError, RunTakenError
from cnnlab.tracking import files
from cnnlab.tracking.run import RunDirectory

STATES = ("done", "pruned", "running", "pending", "interrupted", "failed")
ENDED = ("done", "pruned")  # what a sweep does not run again
KILLED = "killed before it could say why (by someone, or by the system for want of memory)"


@dataclass
class Job:
    """One job of a sweep.

    directory: of its run, inside the sweep's. recipe: `config.recipe_hash` of its resolved configuration; with the seed it
    says which job this is, however it was asked for. score: by validation, where nothing is held out by the test images.
    cause, exit_code: of a job that failed, was interrupted or pruned.
    """

    directory: str
    overrides: list[str]
    recipe: str
    seed: int
    state: str = "pending"
    cause: str | None = None
    metric: str | None = None
    score: float | None = None
    seconds: float | None = None
    exit_code: int | None = None

    @property
    def key(self) -> tuple[str, int]:
        return self.recipe, self.seed

    @property
    def diverged(self) -> bool:
        """Run again, it would again: a run is repeatable to the bit."""
        return self.exit_code == DivergedError.exit_code


class Manifest:
    """manifest.json in a sweep's directory; changed by many processes, one at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "manifest.json"

    def jobs(self) -> list[Job]:
        """All jobs, in the order they were asked for.

        Raises:
            CheckpointError: not a manifest.
        """
        try:
            entries = json.loads(self.path.read_text())["jobs"]
            return [Job(**entry) for entry in entries]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError) as error:
            message = f"{self.path}: not the manifest of a sweep ({error}); remove it, the runs are kept"
            raise CheckpointError(message) from error

    def add(self, new: Sequence[Job]) -> None:
        """Put jobs at the end."""
        with self._changing() as jobs:
            jobs.extend(new)

    def update(self, directory: str, **changes: Any) -> None:
        """Change fields of a job's entry, where there is one: not every sweeper keeps a manifest."""
        if not self.path.exists():
            return
        with self._changing() as jobs:
            for job in jobs:
                if job.directory == directory:
                    for name, value in changes.items():
                        setattr(job, name, value)

    def renew(self, directories: Collection[str]) -> None:
        """Jobs that are about to be launched are pending, whatever stopped them before."""
        with self._changing() as jobs:
            for job in jobs:
                if job.directory in directories:
                    job.state, job.cause, job.exit_code = "pending", None, None

    def settle(self) -> None:
        """Set right what a killed process could not: jobs that nobody runs are interrupted, runs that are gone pending."""
        if not self.path.exists():
            return
        with self._changing() as jobs:
            for job in jobs:
                run = RunDirectory(self.directory / job.directory)
                if job.state == "running" and not _is_locked(run):
                    job.state, job.cause, job.exit_code = "interrupted", KILLED, 137
                if job.state in ENDED and not run.result.exists():
                    job.state, job.score, job.seconds = "pending", None, None

    @contextmanager
    def _changing(self) -> Iterator[list[Job]]:
        with files.exclusive(self.directory / ".manifest.lock", wait=True):
            jobs = self.jobs()
            yield jobs
            files.write_json(self.path, {"jobs": [dataclasses.asdict(job) for job in jobs]})


def _is_locked(run: RunDirectory) -> bool:
    if not run.path.is_dir():
        return False
    try:
        with run.locked():
            return False
    except RunTakenError:
        return True
