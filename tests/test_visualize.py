"""`visualize` writes what a run has to show, and says what does not apply."""

import itertools
from pathlib import Path

import pytest
from PIL import Image
from small_runs import fitted

import cnnlab
from cnnlab.visualize import WHAT

CONV = ("model=lenet", "model.hidden=[16]", "trainer.epochs=1", "trainer.threads=1")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> cnnlab.OpenedRun:
    return fitted(tmp_path_factory.mktemp("visualize") / "run", *CONV)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "my $x_1$ digit.png"
    Image.radial_gradient("L").save(path)
    return path


def test_everything_by_default(call, run) -> None:
    code, out, err = call("visualize", run.directory.path)
    folder = run.directory.path / "visuals"
    assert (code, err) == (0, "")
    pictures = [path for path in folder.glob("*.png") if path.name != "embedding-thumbnails.png"]
    assert {path.name.split("-")[0].split(".")[0] for path in pictures} == set(WHAT)
    assert len(out.splitlines()) == 1 + len(pictures)
    for path in pictures:
        with Image.open(path) as image:
            assert min(image.size) > 400


def test_svg_of_one_picture_in_a_folder_of_its_own(call, run, picture: Path, tmp_path: Path) -> None:
    to = tmp_path / "slides" / "new"
    code, _, _ = call("visualize", run.directory.path, "gradcam", "activations", "--image", picture, "--to", to, "--svg")
    assert code == 0
    assert sorted(path.name for path in to.iterdir()) == [f"activations-{picture.stem}.svg", f"gradcam-{picture.stem}.svg"]
    before = {path.name: path.read_bytes() for path in to.iterdir()}
    call("visualize", run.directory.path, "gradcam", "activations", "--image", picture, "--to", to, "--svg")
    assert {path.name: path.read_bytes() for path in to.iterdir()} == before  # the same bits


def test_two_pictures_of_one_name_and_a_layer(call, run, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / picture.name
    other.write_bytes(picture.read_bytes())
    arguments = ("activations", "filters", "--layer", "blocks.1", "--image", picture, "--image", other, "--to", tmp_path / "to")
    assert call("visualize", run.directory.path, *arguments)[0] == 0
    assert len(list((tmp_path / "to").iterdir())) == 3


def test_without_the_data_what_needs_it_is_told(call, data_root: Path, picture: Path, tmp_path: Path) -> None:
    run = fitted(tmp_path / "run", *CONV, "data=mnist", f"data.root={data_root}")
    data_root.rename(tmp_path / "moved")
    to = tmp_path / "to"
    code, out, _ = call("visualize", run.directory.path, "--image", picture, "--to", to)
    assert code == 0
    told = {line.split()[0] for line in out.splitlines() if "not drawn" in line}
    assert told == {"confusion", "mistakes", "classes", "embedding"}
    assert len(list(to.glob("maximal*.png"))) == 2
    code, out, _ = call("visualize", run.directory.path, "confusion", f"data.root={tmp_path / 'moved'}")
    assert (code, "not drawn" in out) == (0, False)
    assert call("visualize", run.directory.path, "confusion", "data.root=/nonexistent")[0] == 2


@pytest.mark.parametrize("command", [("visualize", "confusion"), ("export",), ("evaluate",)])
def test_pictures_of_more_classes_than_the_run_has_are_refused(
    call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for folder, classes in (("two", "ab"), ("three", "abc")):
        for number, name in itertools.product(range(6), classes):
            (tmp_path / folder / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12, 12), (40 * number, 0, 0)).save(tmp_path / folder / name / f"{number}.png")
    about = ("data=folder", "data.size=12", "data.validation=2", "data.limit=null", f"data.root={tmp_path / 'two'}")
    run = fitted(tmp_path / "run", *CONV, *about)
    code, _, err = call(command[0], run.directory.path, *command[1:], f"data.root={tmp_path / 'three'}")
    assert (code, err.splitlines()[-1]) == (2, "error: data=folder: has 3 classes, the run has 2")


def test_no_convolution(call, tmp_path: Path) -> None:
    run = fitted(tmp_path / "run", "model=mlp", "model.hidden=[8]")
    code, out, _ = call("visualize", run.directory.path, "filters", "gradcam", "occlusion", "embedding")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if "not drawn" in line] == ["filters", "gradcam"]
    assert call("visualize", run.directory.path, "filters")[0] == 2  # nothing at all was drawn


def test_signals_are_no_images(call, tmp_path: Path) -> None:
    run = fitted(tmp_path / "run", "data=digit-rows", "model=signal", "trainer.epochs=1")
    code, out, _ = call("visualize", run.directory.path)
    drawn = [line.split()[0] for line in out.splitlines() if "not drawn" not in line]
    assert (code, drawn) == (0, ["in", "confusion.png", "curves.png", "embedding.png"])
    assert not list(run.directory.path.glob("visuals/*thumbnails*"))


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_binary_and_regression(call, tmp_path: Path, task: str) -> None:
    run = fitted(tmp_path / "run", *CONV, f"task={task}", "data.classes=[3,5]")
    words = ("gradcam", "occlusion", "confusion", "mistakes", "classes", "embedding", "curves")
    code, out, _ = call("visualize", run.directory.path, *words)
    assert code == 0
    told = [line.split()[0] for line in out.splitlines() if "not drawn" in line]
    assert told == (["gradcam", "occlusion", "confusion"] if task == "regression" else [])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["{run}", "gradcamm"],
        ["{run}", "{picture}"],
        ["{run}", "gradcam", "--layer", "blocks.9"],
        ["{run}", "gradcam", "--image", "none.png"],
        ["{run}", "gradcam", "--image", "{text}"],
        ["{run}", "filters", "data.size=3"],
        ["{run}", "activations", "data.resize=fit"],
        ["{run}", "filters", "--to", "{text}"],
        ["{run}", "filters", "--image"],
        ["no-such-run"],
    ],
)
def test_what_makes_no_sense_is_one_line(call, run, picture: Path, tmp_path: Path, arguments: list[str]) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    names = {"run": run.directory.path, "picture": picture, "text": text}
    code, _, err = call("visualize", *(argument.format(**names) for argument in arguments))
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_without_matplotlib(call, run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnlab.plots.find_spec", lambda name: None)
    code, _, err = call("visualize", run.directory.path)
    assert (code, err.count("\n"), "cnnlab[plots]" in err) == (2, 1, True)


def test_own_network_with_one_place_and_functional_layers(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_visualized.py").write_text(
        "import torch.nn.functional as F\nfrom torch import nn\n\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_outputs):\n"
        "        super().__init__()\n"
        "        self.one, self.two = nn.Conv2d(1, 5, 28), nn.Linear(5, num_outputs)\n\n"
        "    def forward(self, images):\n"
        "        return self.two(F.relu_(self.one(images)).flatten(1))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = fitted(tmp_path / "run", "model=custom", "model._target_=mine_visualized.Net")
    code, out, _ = call(
        "visualize", run.directory.path, "filters", "activations", "maximal", "gradcam", "trust=mine_visualized"
    )
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if "not drawn" in line] == ["gradcam"]
