"""What a tired, new or hostile user types: one line on stderr, the right exit code, no traceback, nothing left behind."""

import os
import sys
from pathlib import Path

import pytest

from cnnlab import cli, errors

QUICK = ("data=digits", "data.limit=100", "trainer.steps=2", "console=quiet")

# The command line, and what its line must say.
BEFORE_ANYTHING_IS_LOADED = [
    ("modle=lenet", "Did you mean model?"),
    ("model=lenett", "Did you mean lenet?"),
    ("experiment=conv7", "Did you mean conv7-fashion?"),
    ("data=mnits", "Did you mean mnist?"),
    ("optimizer=adm", "Did you mean adam"),
    ("schedule=cosin", "Did you mean cosine?"),
    ("task=regresion", "Did you mean regression?"),
    ("augment=[flip,crp]", "Did you mean crop?"),
    ("trainer.epoch=3", "Did you mean trainer.epochs"),
    ("epochs=3", "Did you mean trainer.epochs?"),
    ("foo.bar=1", "--help"),
    ("lenet", "Did you mean model=lenet?"),
    ("--multirn", "Did you mean --multirun?"),
    ("--cfg", "expected a value"),
    ("--cfg=jobb", "expected one of job, hydra, all"),
    ("--config-dir=nowhere", "no such directory"),
    ("trainer.epochs=abc", "expected an integer"),
    ("trainer.epochs=1.5", "expected an integer"),
    ("trainer.epochs=0", "expected 1 or more"),
    ("trainer.epochs=[1", "cannot be read as a value"),
    ("trainer=fast", "change one of its keys: trainer.epochs"),
    ("trainer.batch_size=0", "expected 1 or more"),
    ("trainer.precision=fp16", "expected one of fp32, tf32, bf16"),
    ("trainer.clip_norm=0", "expected more than 0"),
    ("console=loud", "expected one of auto, plain, quiet"),
    ("checkpoint.every_s=-1", "expected 0 or more"),
    ("seed=1,2", "add -m"),
    ("data.classes=3,5", "data.classes=[3,5]"),
    ("data.classes=3", "expected a list"),
    ("data.validation=1.5", "a fraction below 1"),
    ("data.normalize=maybe", "expected true or false"),
    ("data.root=${oc.env:CNNLAB_NO_SUCH}", "CNNLAB_NO_SUCH"),
    ("~model", "model: needs a value"),
    ("resume nowhere", "resume=nowhere"),
    ("--resolve", "goes with --cfg"),
    ("hydra.run.dir=${nope}", "nope"),
    ("trainer.threads=100000", "expected at most 1,024"),
    ("+foo=1", "no such key"),
    ("=5", "no such key"),
    ("data.validation=0 evaluation.weights=best", "needs a validation split"),
    ("data.validation=0 trainer.patience=3", "needs a validation split"),
    ("resume=nowhere", "no such directory"),
    ("resume=", "no path"),
    ("resume=. -m", "takes no -m"),
    ("-m model=lenet,lenett", "Did you mean lenet?"),
]
WHILE_BUILDING = [
    ("model.kernal=3", "Keys: blocks, head"),
    ("model.activation=rellu", "expected one of relu"),
    ("model.blocks=3", "expected a list"),
    ("model.blocks=[{cnv:3}]", "Did you mean conv?"),
    ("model.blocks=[{conv:3,kernel:50}]", "50 x 50 does not fit into 28 x 28"),
    ("model.dropout=1.5", "less than 1"),
    ("model.hidden=[0]", "1 or more"),
    ("model.initializer=xavier", "glorot_uniform"),
    ("model=cats-dogs", "28x28x1 -> conv 32 k3 -> 26x26x32"),
    ("model=custom", "model._target_: needs a value"),
    ("model._target_=nomodule.Net", "no module 'nomodule'"),
    ("model._target_=torch.nn.Linaer", "Did you mean Linear"),
    ("model._target_=os.getcwd", "expected torch.nn"),
    ("optimizer.lr=abc", "expected a number"),
    ("model=lenet,", "ends in a comma"),
    ("optimizer.lr=-1", "Invalid learning rate"),
    ("optimizer.momentum=0.9", "no such key of torch.optim.Adam"),
    ("optimizer=sgd optimizer.nesterov=true", "Nesterov"),
    ("optimizer.betas=[0.9]", "a list of 2 values"),
    ("schedule=cosine schedule.warmup=3", "Did you mean schedule.warmup_epochs?"),
    ("schedule=cosine schedule.warmup_epochs=50", "shorter than the run"),
    ("augment=crop augment.crop.padding=40", "expected 0 to 27"),
    ("augment=crop augment.crop.pad=4", "Did you mean augment.crop.padding?"),
    ("task=binary", "data.classes=[3,5]"),
    ("task.label_smoothing=1.5", "less than 1"),
    ("data.validation=20000", "leaves none"),
    ("data.validation=0.00001", "holds out none"),
    ("optimizer._target_=torch.optim.LBFGS", "needs a closure"),
    ("model.batch_norm=true model.blocks=[{conv:3,kernel:28}] trainer.batch_size=99", "choose another trainer.batch_size"),
    ("data.limit=99999", "expected at most 11,000"),
    ("data.classes=[3,11]", "expected two or more different ones"),
    ("data.shape=[3,32,32]", "images of [1, 28, 28]"),
    ("trainer.device=gpu", "expected auto, cpu, cuda or cuda:N"),
    ("trainer.device=cuda:99", "CUDA devices"),
]


@pytest.fixture(autouse=True)
def in_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def one_line(err: str) -> str:
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(("line", "says"), BEFORE_ANYTHING_IS_LOADED)
def test_a_bad_command_line_is_told_before_anything_is_loaded(call, line: str, says: str) -> None:
    code, out, err = call("train", *line.split(" "))
    assert (code, out) == (2, "")
    assert says in one_line(err)
    assert os.listdir() == []


@pytest.mark.parametrize(("line", "says"), WHILE_BUILDING)
def test_a_run_that_cannot_be_built_leaves_nothing(call, line: str, says: str) -> None:
    code, out, err = call("train", *QUICK, *line.split(" "))
    assert (code, out) == (2, "")
    assert says in one_line(err)
    assert os.listdir() == ["outputs"] or os.listdir() == []
    assert not list(Path().glob("outputs/*"))


@pytest.mark.parametrize(
    ("command", "line", "says"),
    [
        ("evaluate", "", "expected one run"),
        ("evaluate", "a b", "got a b"),
        ("evaluate", "nowhere", "no such directory"),
        ("evaluate", ".", "no config.yaml"),
        ("evaluate", "--jsn", "no such option"),
        ("summary", "lenet", "takes only KEY=VALUE"),
        ("summary", "data.shape=[3]", "[channels, height, width]"),
        ("summary", "model=cats-dogs", "does not fit"),
    ],
)
def test_the_other_commands_too(call, command: str, line: str, says: str) -> None:
    code, out, err = call(command, *line.split())
    assert (code, out) == (2, "")
    assert says in one_line(err)


@pytest.mark.parametrize(("place", "code"), [("full", 5), ("file", 5), ("file/below", 2), ("/proc/nowhere/run", 2)])
def test_a_run_directory_that_cannot_be_had(call, place: str, code: int) -> None:
    Path("full").mkdir()
    Path("full/precious").write_text("x")
    Path("file").write_text("x")
    got, out, err = call("train", *QUICK, f"hydra.run.dir={place}")
    assert (got, out) == (code, "")
    one_line(err)
    assert Path("full/precious").read_text() == Path("file").read_text() == "x"


def test_a_network_of_ones_own_that_fails_says_where(call) -> None:
    Path("mine_failing.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n        1 / 0\n"
    )
    code, _, err = call("train", *QUICK, "model._target_=mine_failing.Net")
    assert code == 2
    assert "ZeroDivisionError: division by zero (mine_failing.py, line 6)" in one_line(err)


OWN = """
import torch
from torch import nn


class Deep(nn.Sequential):
    def __init__(self, num_outputs):
        super().__init__(nn.Flatten(), nn.Linear(784, num_outputs))


class NormedOnOne(Deep):
    def __init__(self, num_outputs):
        super().__init__(num_outputs)
        self.append(nn.BatchNorm1d(num_outputs))


class FailsInTraining(Deep):
    def forward(self, images):
        if self.training:
            raise RuntimeError("only when training")
        return super().forward(images)


class Detached(Deep):
    def forward(self, images):
        return super().forward(images).detach()


class Remembers(Deep):
    def get_extra_state(self):
        return {"a": 1}

    def set_extra_state(self, state):
        pass


def floats(num=20):
    from cnnlab.data.images import Images, Source

    return Source(*[Images(torch.rand(num, 1, 28, 28), torch.zeros(num, dtype=torch.int64))] * 2, tuple("0123456789"))


def strange_labels():
    from cnnlab.data.images import Images, Source

    images = torch.zeros(20, 1, 28, 28, dtype=torch.uint8)
    return Source(*[Images(images, torch.full((20,), 10))] * 2, tuple("0123456789"))
"""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("model._target_=own_things.NormedOnOne trainer.batch_size=99", "choose another trainer.batch_size"),
        ("model._target_=own_things.FailsInTraining", "only when training (own_things.py, line "),
        ("model._target_=own_things.Detached", "training fails"),
        ("model._target_=own_things.Remembers", "checkpoint holds tensors alone"),
        ("data.source._target_=own_things.floats", "expected torch.uint8"),
        ("data.source._target_=own_things.strange_labels", "go from 10 to 10"),
        ("data.source._target_=os.getcwd", "expected cnnlab.data.images.Source"),
    ],
)
def test_things_of_ones_own_that_cannot_train(call, monkeypatch: pytest.MonkeyPatch, change: str, says: str) -> None:
    Path("own_things.py").write_text(OWN)
    monkeypatch.syspath_prepend(Path.cwd())
    monkeypatch.delitem(sys.modules, "own_things", raising=False)
    code, out, err = call("train", *QUICK, "data.validation=0", *change.split(" "))
    assert (code, out) == (2, "")
    assert says in one_line(err)


def test_an_optimizer_of_ones_own_trains_and_resumes(call) -> None:
    quick = (*QUICK, "optimizer._target_=torch.optim.Adafactor", "optimizer.lr=0.01", "hydra.run.dir=run")
    assert call("train", *quick)[0] == 0
    assert call("train", "resume=run", "trainer.steps=4", "console=quiet")[0] == 0


def test_the_commands_that_are_printed_can_be_pasted(call) -> None:
    place = "o x/a=b, [bold]"
    code, out, _ = call("train", *QUICK[:-1], f"hydra.run.dir='{place}'")
    assert code == 0
    assert f"python -m cnnlab.evaluate '{place}'" in out
    code, out, _ = call("evaluate", place)
    assert code == 0
    assert out.startswith(f"{place}, last weights")


def test_data_that_is_not_there_says_which_files_go_where(call) -> None:
    code, _, err = call("train", "data=fashion", "data.root=nowhere", "data.download=false")
    assert code == 2
    for part in ("nowhere/FashionMNIST/raw", "train-images-idx3-ubyte", "data.download=false", "data=digits"):
        assert part in one_line(err)


def test_every_mode_of_hydra_still_works(call) -> None:
    code, out, _ = call("train", "--cfg", "job", "model=mlp")
    assert code == 0
    assert "_target_: cnnlab.models.MLP" in out
    assert not Path("outputs").exists()
    Path("extra/model").mkdir(parents=True)
    Path("extra/model/tiny.yaml").write_text("_target_: cnnlab.models.MLP\nhidden: [4]\n")
    code, out, err = call("train", *QUICK, "--config-dir", "extra", "model=tiny", "hydra.run.dir=tiny")
    assert (code, err) == (0, "")
    assert out.startswith("tiny  test accuracy")


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_is_for_a_person(call, command: str) -> None:
    code, out, err = call(command, "--help")
    assert (code, err) == (0, "")
    assert f"python -m cnnlab.{command}" in out
    assert max(map(len, out.splitlines())) <= 130


def test_the_console_script_dispatches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, code, says in (
        (["--help"], 0, "evaluate"),
        (["trian"], 2, "Did you mean train?"),
        (["--version"], 0, "cnnlab"),
    ):
        monkeypatch.setattr("sys.argv", ["cnnlab", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.console_script()
        out, err = capsys.readouterr()
        assert ended.value.code == code
        assert says in out + err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(28, "No space left on device", "last.safetensors"), 4),
        (PermissionError(13, "Permission denied", "outputs"), 2),
        (MemoryError(), 4),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 1 TB"), 4),
    ],
)
def test_what_the_machine_does_is_told_apart_from_bugs(error: Exception, code: int) -> None:
    known = errors.as_known(error)
    assert known is not None
    assert known.exit_code == code


def test_a_bug_keeps_its_traceback() -> None:
    assert errors.as_known(KeyError("x")) is None
    assert errors.as_known(RuntimeError("shapes")) is None
