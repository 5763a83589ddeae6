"""Row 2: resumed from every step of a run of 60 steps, as a kill after its checkpoint leaves it: the same bits."""

import shutil
from pathlib import Path

import pytest
from conftest import assert_same_run
from protocol import share
from small_runs import checkpoint_meta, resume

from cnnlab import cli
from cnnlab.training import checkpoint, trainer

STEPS = 60
RUN = ("data=digits", "data.limit=620", "data.validation=100", "trainer.batch_size=32", "trainer.epochs=3",
       "trainer.threads=1", "console=quiet", "checkpoint.every_s=0")  # fmt: skip
HEAD = '{epochs: 1, parameters: [{match: "blocks.*", frozen: true}]}'
REST = "{epochs: 2, lr_factor: 0.1, schedule: {_target_: cnnlab.training.schedule.cosine}}"
NETWORKS = {  # dropout, augmentation, schedules, statistics, and optimizers with one and two moments and with momentum
    "mlp": ("model=mlp", "model.hidden=[8]", "model.hidden_dropout=0.1", "augment=[crop,rotation]", "optimizer=rmsprop",
            "schedule=step", "schedule.every_epochs=1"),
    "lenet": ("model=lenet", "model.batch_norm=true", "optimizer=adam", "schedule=cosine", "augment=[flip]"),
    "momentum": ("model=mlp", "model.hidden=[8,8]", "optimizer=sgd", "optimizer.momentum=0.9", "trainer.clip_norm=1"),
    "phases": ("model=lenet", "model.batch_norm=true", "model.dropout=0.1", f"phases=[{HEAD},{REST}]"),
}  # fmt: skip


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each network a folder with the run after each step, by the step's number."""
    folders = {}
    for name, settings in NETWORKS.items():
        folder = folders[name] = tmp_path_factory.mktemp(name)

        def save(path: Path, state: checkpoint.State, folder: Path = folder) -> None:
            checkpoint.save_checkpoint(path, state)
            if path.name == "last.safetensors":
                shutil.copytree(path.parent, folder / str(state.progress.step))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer, "LOOK_EVERY_S", 0.0)
            patch.setattr(trainer, "save_checkpoint", save)
            assert cli.run("train", [*RUN, *settings, f"hydra.run.dir={folder / 'run'}"]) == 0
    return folders


@pytest.mark.parametrize(("network", "step"), share(((name, step) for step in range(1, STEPS + 1) for name in NETWORKS), 19))
def test_it_is_the_same_run(copies: dict[str, Path], network: str, step: int) -> None:
    run = copies[network] / str(step)
    assert checkpoint_meta(run / "last.safetensors")["progress"]["step"] == step
    resume(run)
    assert_same_run(run, copies[network] / "run")
