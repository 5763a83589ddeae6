"""`cnnlab.fit`: what it leaves in the process and on the disk, what it takes, and how it is interrupted."""

import re
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from safetensors.torch import load_file
from small_runs import QUICK, fitted
from torch import nn

import cnnlab
from cnnlab.errors import CnnlabError, ConfigError
from cnnlab.status import StoppedError


def test_fit_leaves_no_trace_in_the_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    before = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    runs = [fitted(tmp_path / name, "model=mlp", "trainer.steps=2") for name in ("a", "b")]
    assert (GlobalHydra.instance().hydra, HydraConfig.instance().cfg) == before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    one, other = (load_file(run.directory.last) for run in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert len(capsys.readouterr().out.splitlines()) == 2  # console=quiet


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("model=lenett", "lenet"),
        ("trainer.epochs=0", "trainer.epochs=0"),
        ("optimizer.lr=-1", "optimizer"),
        ("seed=1,2", "seed=1,2"),
        ("resume=x", "resume"),
        ("data.classes=[7,70]", "data.classes"),
        ("model.hidden=[10000000000000]", "memory"),
    ],
)
def test_fit_raises_one_kind_of_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, names: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CnnlabError, match=names):
        cnnlab.fit(*QUICK, override)
    assert not list(tmp_path.glob("outputs/*"))


def test_fit_takes_further_choices(tmp_path: Path) -> None:
    (tmp_path / "mine/model").mkdir(parents=True)
    (tmp_path / "mine/model/tiny.yaml").write_text("_target_: cnnlab.models.MLP\nhidden: [4]\n")
    run = cnnlab.fit(*QUICK, "model=tiny", f"hydra.run.dir={tmp_path / 'run'}", config_dirs=[tmp_path / "mine"])
    assert isinstance(run.network, nn.Module)
    assert run.config.model["hidden"] == [4]
    with pytest.raises(ConfigError, match="nowhere"):
        cnnlab.fit("model=tiny", config_dirs=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("override", [["model=lenet"], 3, None])
def test_fit_takes_one_string_each(override: object) -> None:
    with pytest.raises(ConfigError, match="override"):
        cnnlab.fit("data=digits", override)  # type: ignore[arg-type]


def test_fit_in_another_thread(tmp_path: Path) -> None:
    done: list[cnnlab.OpenedRun] = []
    worker = threading.Thread(target=lambda: done.append(fitted(tmp_path / "thread", "model=mlp", "trainer.steps=2")))
    worker.start()
    worker.join()
    assert done[0].result is not None


def test_ctrl_c_during_fit_saves_and_raises(tmp_path: Path) -> None:
    run, before = tmp_path / "long", signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        while not (run / "metrics.jsonl").exists():
            time.sleep(0.02)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(StoppedError, match=re.escape(f"resume={run}")) as caught:
        fitted(run, "trainer.epochs=100000", "checkpoint.every_s=1000")
    assert caught.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) == before
    result = cnnlab.load(run).result
    assert result is not None
    assert result["status"] == "interrupted"
