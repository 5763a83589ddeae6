"""What a tired, new or hostile user types: one line on stderr, the right exit code, no traceback, nothing left behind."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cnnlab import cli, errors

QUICK = ("data=digits", "data.limit=100", "trainer.steps=2", "console=quiet")

NAMED = {  # a command line, and what its message must name
    "modle=lenet": "model?",
    "model=lenett": "lenet?",
    "experiment=conv7": "conv7-fashion?",
    "augment=[flip,crp]": "crop?",
    "trainer.epoch=3": "trainer.epochs",
    "epochs=3": "trainer.epochs?",
    "lenet": "model=lenet?",
    "--multirn": "--multirun?",
    "-m model=lenet,lenett": "lenet?",
    "foo.bar=1": "--help",
    "trainer=fast": "trainer.epochs",
    "seed=1,2": "-m",
    "lr=0.01": "optimizer.lr?",
    "dropout=0.2": "model.dropout?",
    "--epochs 3": "trainer.epochs=3?",
    "--lr=0.1": "optimizer.lr=0.1?",
    "augment.flip.probability=0.3": "augment=[flip]",
    "parameters=[{match:x,frozn:true}]": "frozen?",
    "data.classes=3,5": "data.classes=[3,5]",
    "resume nowhere": "resume=nowhere",
    "--resolve": "--cfg",
    "trainer.precision=fp16": "fp32, tf32, bf16",
    "--cfg=jobb": "job, hydra, all",
    "data.root=${oc.env:CNNLAB_NO_SUCH}": "CNNLAB_NO_SUCH",
    "hydra.run.dir=${nope}": "nope",
    "hydra.run.dir=${hydra.run.dir}": "hydra.run.dir:",
    "resume=nowhere": "nowhere",
    "resume=": "run",
    "model=null": "model",
    "trainer.epochs=2 trainer.epochs=null": "trainer.epochs=null:",
}
REFUSED_BEFORE_ANYTHING_IS_LOADED = [
    "--cfg", "--config-dir=nowhere", "trainer.epochs=abc", "trainer.epochs=0", "trainer.epochs=[1", "trainer.batch_size=0",
    "trainer.clip_norm=0", "trainer.threads=100000", "checkpoint.every_s=-1", "data.classes=3", "data.validation=1.5",
    "data.normalize=maybe", "~model", "+foo=1", "=5",
    "data.validation=0 evaluation.weights=best", "data.validation=0 trainer.patience=3", "resume=. -m",
]  # fmt: skip
REFUSED_WHILE_BUILDING = [
    "model=custom", "model._target_=nomodule.Net", "model._target_=os.getcwd", "model.blocks=[{conv:3,kernel:50}]",
    "model.initializer=xavier", "model=lenet,", "optimizer.lr=abc", "optimizer.lr=-1", "optimizer.momentum=0.9",
    "optimizer._target_=torch.optim.LBFGS", "schedule=cosine schedule.warmup=3", "schedule=cosine schedule.warmup_epochs=50",
    "augment=crop augment.crop.padding=40", "augment=crop augment.crop.pad=4", "task=binary", "task.label_smoothing=1.5",
    "model.batch_norm=true model.blocks=[{conv:3,kernel:28}] trainer.batch_size=99", "data.validation=20000",
    "data.validation=0.00001", "data.limit=99999", "data.classes=[3,11]", "data.shape=[3,32,32]", "trainer.device=gpu",
    "trainer.device=cuda:99",
]  # fmt: skip


@pytest.fixture(autouse=True)
def in_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def section_in(line: str) -> str:
    """What the message must name of a change such as `data.limit=99999`: the section or option, of the last one."""
    return line.split(" ")[-1].lstrip("~+").partition("=")[0].partition(".")[0]


def one_line(err: str) -> str:
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("line", [*NAMED, *REFUSED_BEFORE_ANYTHING_IS_LOADED])
def test_a_bad_command_line_is_told_before_anything_is_loaded(call, line: str) -> None:
    code, out, err = call("train", *line.split(" "))
    assert (code, out) == (2, "")
    assert NAMED.get(line, section_in(line)) in one_line(err)
    assert os.listdir() == []


@pytest.mark.parametrize("line", REFUSED_WHILE_BUILDING)
def test_a_run_that_cannot_be_built_leaves_nothing(call, line: str) -> None:
    code, out, err = call("train", *QUICK, *line.split(" "))
    assert (code, out) == (2, "")
    assert section_in(line) in one_line(err)
    assert not list(Path().glob("outputs/*"))


@pytest.mark.parametrize(
    ("command", "line", "says"),
    [
        ("evaluate", "", "evaluate"),
        ("evaluate", "a b", "a b"),
        ("evaluate", "nowhere", "nowhere"),
        ("evaluate", ".", "config.yaml"),
        ("evaluate", "--jsn", "--jsn"),
        ("summary", "lenet", "lenet"),
        ("summary", "data.shape=[3]", "data.shape"),
        ("summary", "model=cats-dogs", "28x28x1"),
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
    assert "mine_failing.py, line 6" in one_line(err)


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


def integers(num=20):
    from cnnlab.data import InMemory, Source

    labels = torch.zeros(num, dtype=torch.int64)
    return Source(*[InMemory(torch.zeros(num, 1, 28, 28, dtype=torch.int32), labels)] * 2, tuple("0123456789"))


def strange_labels():
    from cnnlab.data import InMemory, Source

    images = torch.zeros(20, 1, 28, 28, dtype=torch.uint8)
    return Source(*[InMemory(images, torch.full((20,), 10))] * 2, tuple("0123456789"))
"""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("model._target_=own_things.NormedOnOne trainer.batch_size=99", "trainer.batch_size"),
        ("model._target_=own_things.FailsInTraining", "own_things.py, line "),
        ("model._target_=own_things.Detached", "model: "),
        ("model._target_=own_things.Remembers", "extra_state"),
        ("data.source._target_=own_things.integers", "data.source: "),
        ("data.source._target_=own_things.strange_labels", "data.source: "),
        ("data.source._target_=os.getcwd", "data.source._target_=os.getcwd"),
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
    assert out.startswith(f"{place}\nlast weights")


def test_data_that_is_not_there_says_which_files_go_where(call) -> None:
    code, _, err = call("train", "data=fashion", "data.root=nowhere", "data.download=false")
    assert code == 2
    for part in ("nowhere/FashionMNIST/raw", "train-images-idx3-ubyte"):
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


def test_a_choice_explains_its_own_settings(call) -> None:
    code, out, err = call("train", "model=lenet", "optimizer=adam", "--help")
    assert (code, err) == (0, "")
    assert "model.hidden=[120, 84]\n      widths of the hidden dense layers" in out
    assert re.search(r"optimizer.lr=0.001\n      \w", out)
    assert call("train", "model=lenett", "--help")[0] == 2


@pytest.mark.parametrize(
    ("line", "named"), [("-m seed=1,2 hydra/launcher=parralel", "parallel?"), ("model=cats-dogs data=digits", "46 x 46")]
)
def test_what_shows_only_later_is_told_as_well(line: str, named: str, call) -> None:
    code, _, err = call("train", *line.split())
    assert code == 2
    assert named in err


def test_several_values_of_what_is_no_list_are_for_a_sweep_alone(call) -> None:
    _, _, err = call("train", "model=lenet,mlp")
    assert "add -m" in err
    assert "[" not in err


@pytest.mark.parametrize(
    ("columns", "expected"), [(40, ["  --a      word word word word word word", "           word word"]), (80, 1)]
)
def test_help_is_folded_at_words_under_its_last_column(columns: int, expected: list[str] | int) -> None:
    lines = errors.folded("  --a      word word word word word word word word", columns).split("\n")
    assert len(lines) == expected if isinstance(expected, int) else lines == expected


def test_a_note_is_folded_on_a_terminal_but_not_the_command_in_it(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a sentence of words, then what mends it: python -m cnnlab.train resume=a/long/name"
    errors.note(text)
    assert capsys.readouterr().err == f"{text}\n"  # a file has no width
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    errors.note(text)
    folded = ["a sentence of words, then what", "    mends it:", "python -m cnnlab.train resume=a/long/name"]
    assert [line.strip() for line in capsys.readouterr().err.splitlines()] == [line.strip() for line in folded]


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_is_for_a_person(call, command: str) -> None:
    code, out, err = call(command, "--help")
    assert (code, err) == (0, "")
    assert f"python -m cnnlab.{command}" in out
    assert max(map(len, out.splitlines())) <= 80


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


@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
@pytest.mark.parametrize("command", [["predict", "nowhere", "-"], ["--help"], ["trian"]])
def test_a_stream_that_the_shell_closed_is_none_to_write_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], closed: str, command: list[str]
) -> None:
    monkeypatch.setattr(sys, closed, None)
    monkeypatch.setattr("sys.argv", ["cnnlab", *command])
    with pytest.raises(SystemExit) as ended:
        cli.console_script()
    assert ended.value.code == (0 if command == ["--help"] else 2)
    with getattr(sys, closed) as stream:
        assert not stream.isatty()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("command", ["--help", "train"])
def test_a_full_disk_under_the_standard_output_is_one_line(command: str) -> None:
    shell = f"{sys.executable} -m cnnlab {command} --help > /dev/full"
    ended = subprocess.run(shell, shell=True, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, len(one_line(ended.stderr)) > 0) == (4, True)


@pytest.mark.parametrize("command", ["predict", "compare"])
@pytest.mark.parametrize("top", ["0", "-1", "\N{SUPERSCRIPT TWO}", "9" * 5000])
def test_a_top_that_is_no_number_is_told(call, command: str, top: str) -> None:
    code, _, err = call(command, "x", f"--top={top}")
    assert (code, "--top" in one_line(err), len(err) < 200) == (2, True, True)


def test_a_current_directory_that_is_gone_is_told(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path / "..")
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, _, err = call("evaluate", "last")
    assert (code, "(cd)" in one_line(err)) == (2, True)


def test_an_interrupt_while_a_command_is_imported_has_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    command = [sys.executable, "-m", "cnnlab.evaluate"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")


def test_windows_is_told_where_it_runs(call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    code, out, err = call("summary", "model=lenet")
    assert (code, out, "WSL" in one_line(err)) == (2, "", True)


@pytest.mark.parametrize(("module", "package"), [("torchvision", "torchvision"), ("PIL", "pillow")])
def test_a_package_that_is_not_installed_is_told_with_the_line_that_brings_it(
    call, monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module or name.startswith("cnnlab.data.folder")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    words = ["model=pretrained"] if module == "torchvision" else ["data=folder", "data.root=."]
    code, _, err = call("summary", "data=digits", *words)
    assert (code, f"pip install {package}" in one_line(err)) == (2, True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_any_command_through_its_finally_blocks(number: signal.Signals, code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        cli._ended(lambda: signal.raise_signal(number))
    assert ended.value.code == code
