"""The study of a search: Optuna's record of the trials and their results, in study.journal.

It is a journal instead of SQLite: a text file that Optuna replays, that its dashboard reads, and in which a killed process can
damage only the last line, which is then dropped. Only one process, the sweeper, writes it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnlab import seeding
from cnnlab.errors import CheckpointError, ConfigError
from cnnlab.reading import MAX_RECORD, read_bytes
from cnnlab.sweep.space import Space
from cnnlab.tracking import files

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

NAME = "study.journal"
SEARCHED = "searched"  # the study's attribute with what it searches


def require_optuna() -> None:
    """Import Optuna, and silence its log.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigError("hydra/sweeper=optuna: needs Optuna, which is not installed: pip install 'cnnlab[optuna]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def open_study(path: Path, searched: Mapping[str, str], higher_is_better: bool) -> "Study":
    """Open the study in the file `path`, which is created if it is missing.

    Args:
        searched: what is searched; a study can only be continued with the same.

    Raises:
        ConfigError: the study searches something else. CheckpointError: the file is not a study.
    """
    import optuna
    from optuna.distributions import distribution_to_json
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.study import StudyDirection

    direction = StudyDirection.MAXIMIZE if higher_is_better else StudyDirection.MINIMIZE
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)  # Optuna's own, which a killed process leaves behind
    _drop_broken_end(path)
    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        study = optuna.create_study(storage=storage, study_name="search", direction=direction, load_if_exists=True)
        before, trials = study.user_attrs.get(SEARCHED), study.get_trials(deepcopy=False)
        runs = [run for trial in trials for run in trial.user_attrs.get("runs", ())]
        if not isinstance(before, dict | None) or not all(isinstance(run, str) for run in runs):
            raise ValueError("its attributes are not those of a search")
        if study.directions != [direction] or any(len(trial.values or [0]) != 1 for trial in trials):
            raise ValueError("it has more than one direction, or a trial with more than one value")
        drawn = [item for trial in trials for item in trial.distributions.items()]
        if before and any(distribution_to_json(kind) != before.get(key) for key, kind in drawn):
            raise ValueError("its trials were drawn from other distributions")
        if before is None:
            study.set_user_attr(SEARCHED, dict(searched))
    except OSError:
        raise
    except Exception as error:  # Optuna raises almost anything on a damaged journal
        raise CheckpointError(f"{path}: not a study that Optuna can read ({error}); choose another sweep.name") from error
    if before is not None and before != searched:
        differs = ", ".join(key for key in {**before, **searched} if before.get(key) != searched.get(key))
        raise ConfigError(f"{path.parent}: its study searched with other values of: {differs}; choose another sweep.name")
    return study


def ask(study: "Study", space: Space, sampler: str, seed: int) -> "FrozenTrial":
    """Ask for a new trial, whose values depend only on `seed`, its number and what the study has been told."""
    study.sampler = _sampler(sampler, seeding.derive(seed, "search", len(study.get_trials(deepcopy=False))) % 2**32)
    number = study.ask(space.distributions).number
    return study.get_trials(deepcopy=False)[number]


def unfinished(study: "Study", space: Space) -> "list[FrozenTrial]":
    """Return the trials without a result. Those that were cut off while they were created, or drew from another space, are
    given up."""
    from optuna.trial import TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    whole = [trial for trial in running if trial.distributions == space.distributions]
    for trial in running:
        if trial not in whole:
            study.tell(trial.number, state=TrialState.FAIL)
    return whole


def report(study: "Study", trial: "FrozenTrial", scores: Sequence[float | None]) -> None:
    """Report the score of each epoch, counted from 1; repeating it does no harm."""
    from optuna.trial import Trial

    live = Trial(study, trial._trial_id)
    for epoch, score in enumerate(scores, 1):
        if score is not None and epoch not in trial.intermediate_values:
            live.report(score, epoch)


def note_runs(study: "Study", trial: "FrozenTrial", runs: Sequence[str]) -> None:
    """Store the directories of a trial's runs."""
    from optuna.trial import Trial

    Trial(study, trial._trial_id).set_user_attr("runs", list(runs))


def _sampler(kind: str, seed: int) -> "BaseSampler":
    from optuna.samplers import RandomSampler, TPESampler

    # Running trials count as bad ones, or all workers would be sent to the same place.
    return TPESampler(seed=seed, constant_liar=True) if kind == "tpe" else RandomSampler(seed=seed)


def _drop_broken_end(path: Path) -> None:
    """Remove a last line that a kill or a power failure left incomplete.

    Raises:
        CheckpointError: it is not a regular file.
    """
    try:
        content = read_bytes(path, MAX_RECORD)
    except FileNotFoundError:
        return
    lines = content.splitlines(keepends=True)
    if lines and not _is_whole(lines[-1]):
        files.write_atomic(path, b"".join(lines[:-1]))


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n")
