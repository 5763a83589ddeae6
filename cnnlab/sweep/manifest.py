"""The manifest of a sweep, manifest.json: its jobs and their progress. Every job writes its own entry."""

import dataclasses
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnlab.config.schema import from_plain
from cnnlab.errors import CheckpointError, ConfigError
from cnnlab.reading import read_json
from cnnlab.status import Status
from cnnlab.tracking import files
from cnnlab.tracking.run import RunDirectory

NAME = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,254}")  # of a job's directory, as `grid.job_names` makes them
KILLED = "killed before it could record a cause (by a user, or by the system because memory ran out)"


@dataclass
class Job:
    """One job of a sweep.

    directory: of its run, inside the sweep's. recipe: `config.recipe_hash` of its resolved configuration, which identifies the
    job together with the seed. score: the value of `metric` on `split`, which is validation, or test if nothing is held out.
    cause, exit_code: of a job that failed, was interrupted or pruned. drawn: the keys whose values a search drew.
    """

    directory: str
    overrides: list[str]
    recipe: str
    seed: int
    status: Status = Status.PENDING
    cause: str | None = None
    split: str | None = None
    metric: str | None = None
    score: float | None = None
    seconds: float | None = None
    exit_code: int | None = None
    drawn: list[str] = dataclasses.field(default_factory=list)

    @property
    def key(self) -> tuple[str, int]:
        return self.recipe, self.seed

    @property
    def values(self) -> dict[str, str]:
        """Its overrides by key."""
        return dict(text.lstrip("+~").partition("=")[::2] for text in self.overrides)

    @property
    def worth_repeating(self) -> bool:
        """Whether running it again may help; a job that diverged would do so again, to the bit."""
        return not self.status.is_final and self.status is not Status.DIVERGED


class Manifest:
    """manifest.json in a sweep's directory; changed by many processes, one at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "manifest.json"

    def jobs(self) -> list[Job]:
        """Read all jobs, in the order they were requested.

        Raises:
            CheckpointError: the file is not a manifest.
        """
        try:
            content = read_json(self.path)
            if content is None:
                return []
            entries = content["jobs"]
            jobs = [from_plain(Job, entry, f"jobs[{number}]") for number, entry in enumerate(entries)]
            for job in jobs:
                self.require_own(job.directory)
            return jobs
        except (ValueError, TypeError, KeyError, CheckpointError, ConfigError) as error:
            mend = "remove it (the runs are kept), or choose another sweep.name"
            raise CheckpointError(f"{self.path}: not the manifest of a sweep ({error}); {mend}") from error

    def require_own(self, directory: str) -> None:
        """Raise ConfigError unless a job's directory is, or can be created, in the sweep's: a plain name, no link or file."""
        place = self.directory / directory
        if not NAME.fullmatch(directory) or place.is_symlink() or (place.exists() and not place.is_dir()):
            raise ConfigError(f"{place}: not a job's directory inside the sweep's; remove or rename it")

    def require_kept(self) -> None:
        """Raise CheckpointError if it has disappeared since the sweep began, perhaps moved or removed with the directory."""
        if not self.path.exists():
            raise CheckpointError(f"{self.path}: is gone; put the sweep's directory back, and run the same command again")

    def higher_is_better(self, job: Job) -> bool:
        """Whether a higher score is better, according to the result of a job that has ended."""
        result = RunDirectory(self.directory / job.directory).read_result()
        return result is None or result.higher_is_better

    def varied(self) -> list[str]:
        """Return the keys in which the sweep's jobs differ, in the order they were requested: for a search those that it
        draws, for a lone job all, since others may follow."""
        jobs = self.jobs()
        if drawn := list(dict.fromkeys(key for job in jobs for key in job.drawn)):
            return drawn
        asked = [job.values for job in jobs]
        keys = dict.fromkeys(key for values in asked for key in values)
        return [key for key in keys if len(asked) == 1 or len({values.get(key) for values in asked}) > 1]

    def add(self, new: Sequence[Job]) -> None:
        """Append jobs."""
        with self._changing() as jobs:
            jobs.extend(new)

    def update(self, directory: str, **changes: Any) -> None:
        """Change fields of a job's entry, if there is one: not every sweeper keeps a manifest."""
        if not self.path.exists():
            return
        with self._changing() as jobs:
            for job in jobs:
                if job.directory == directory:
                    for name, value in changes.items():
                        setattr(job, name, value)

    def mark_pending(self, directories: Collection[str]) -> None:
        """Mark jobs that are about to be launched as pending, whatever stopped them before."""
        with self._changing() as jobs:
            for job in jobs:
                if job.directory in directories:
                    job.status, job.cause, job.exit_code = Status.PENDING, None, None

    def reconcile(self) -> None:
        """Correct what a killed process left: jobs that no process runs are interrupted, jobs whose runs are gone pending."""
        if not self.path.exists():
            return
        with self._changing() as jobs:
            for job in jobs:
                run = RunDirectory(self.directory / job.directory)
                if job.status is Status.RUNNING and not run.is_locked():
                    job.status, job.cause, job.exit_code = Status.INTERRUPTED, KILLED, 137
                if job.status.is_final and not run.result.exists():
                    job.status, job.score, job.seconds = Status.PENDING, None, None

    @contextmanager
    def _changing(self) -> Iterator[list[Job]]:
        with files.exclusive(self.directory / ".manifest.lock", wait=True):
            jobs = self.jobs()
            yield jobs
            files.write_json(self.path, {"jobs": [dataclasses.asdict(job) for job in jobs]})
