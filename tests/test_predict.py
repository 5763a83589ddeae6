"""`predict` brings pictures to the shape of training, and says what `run.predict` says of them."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_runs import fitted, train
from torch import Tensor

import cnnlab
from cnnlab.data import load_data
from cnnlab.data.splits import all_images
from cnnlab.training.task import Multiclass


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> cnnlab.OpenedRun:
    return fitted(tmp_path_factory.mktemp("predict") / "run", "model=mlp", "model.hidden=[8]")


@pytest.fixture
def pictures(run: cnnlab.OpenedRun, tmp_path: Path) -> Path:
    """Ten test images as files."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, image in enumerate(ten_images(run)):
        Image.fromarray(image[0]).save(folder / f"{number}.png")
    return folder


def test_every_way_to_name_files_gives_the_classes_of_the_object(call, run, pictures: Path, monkeypatch) -> None:
    found = run.predict(ten_images(run))
    expected = [run.classes[label] for label in found.predicted.tolist()]
    files = sorted(map(str, pictures.iterdir()))
    for words in ([pictures], [pictures / "*.png"], files, ["-"]):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(files).encode())))
        code, out, err = call("predict", run.directory.path, *words, "--json", "--top", "3")
        lines = [json.loads(line) for line in out.splitlines()]
        assert (code, [line["file"] for line in lines]) == (0, files)
        assert [line["classes"][0]["class"] for line in lines] == expected
        assert "28 x 28, gray" in err
    probabilities = [[one["probability"] for one in line["classes"]] for line in lines]
    np.testing.assert_allclose(probabilities, found.probabilities.topk(3).values, atol=1e-6)


def test_table_and_csv_are_safe_to_read(call, run, pictures: Path, monkeypatch) -> None:
    monkeypatch.chdir(pictures)
    for name in ("=1+1.png", "a\x1b[2J.png"):
        Path(name).write_bytes(Path("0.png").read_bytes())
    code, out, _ = call("predict", run.directory.path, "*1.png", "a*.png", "--csv", "--top", "2")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (code, [row["rank"] for row in rows]) == (0, ["1", "2"] * 3)
    assert [row["file"] for row in rows[::2]] == ["1.png", "'=1+1.png", "a\ufffd[2J.png"]
    code, out, _ = call("predict", run.directory.path, "a*.png")
    assert code == 0
    assert out.splitlines()[1].startswith("a\ufffd[2J.png")


def test_an_empty_standard_input_is_told(call, run, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    code, out, err = call("predict", run.directory.path, "-", "--csv")
    assert (code, out, err.splitlines()[-1].startswith("error: -: ")) == (2, "", True)


def test_what_cannot_be_read_is_told_and_the_rest_predicted(call, run, pictures: Path) -> None:
    (pictures / "text.jpg").write_text("no picture")
    (pictures / "empty").mkdir()
    os.mkfifo(pictures / "pipe.png")
    (pictures / "broken.png").symlink_to("nowhere")
    (pictures / "loop.png").symlink_to("loop.png")
    with (pictures / "zeros.gif").open("wb") as file:  # which Pillow would search for a picture, byte by byte
        file.write(b"GIF89a\x64\0\x64\0\0\0\0")
        file.truncate(1 << 40)
    named = [pictures / name for name in ("empty", "none.png", "broken.png", "loop.png")]
    code, out, err = call("predict", run.directory.path, pictures, *named, "--json")
    assert (code, len(out.splitlines())) == (2, 10)
    told = ("text.jpg", "empty", "none.png", "pipe.png", "broken.png: No such", "loop.png: Too many", "256 MiB", "9 of 19")
    assert [words for words in told if words not in err] == []


def test_a_reader_that_stops_early_is_no_error(run, pictures: Path) -> None:
    command = [sys.executable, "-m", "cnnlab.predict", run.directory.path, pictures]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.close()
    assert process.returncode == 0


def test_what_a_folder_holds_beside_pictures_is_told_up_to_a_bound(call, run, pictures: Path, monkeypatch) -> None:
    for name in ("a.heic", "notes.txt"):
        (pictures / name).write_text("")
    (pictures / "0.png").rename(pictures / "0.TIFF")
    code, out, err = call("predict", run.directory.path, pictures, "--json")
    assert (code, len(out.splitlines()), "ignored 2" in err, "a.heic" in err) == (0, 10, True, True)
    monkeypatch.setattr("cnnlab.predict.MOST_FILES", 11)
    code, out, err = call("predict", run.directory.path, pictures)
    assert (code, out, err.splitlines()[-1].startswith("error: ")) == (2, "", True)


def test_other_sizes_colors_and_polarity(call, run, tmp_path: Path) -> None:
    image = ten_images(run)[0, 0]
    large = Image.fromarray(255 - image).convert("RGB").resize((280, 280), Image.Resampling.NEAREST)
    large.save(tmp_path / "large.png")
    code, out, _ = call("predict", run.directory.path, tmp_path / "large.png", "--invert", "--json")
    assert code == 0
    found = run.predict(image[None, None])
    answer = json.loads(out)["classes"][0]
    assert answer["class"] == run.classes[int(found.predicted)]
    assert answer["probability"] == pytest.approx(float(found.probability), abs=0.05)


@pytest.mark.parametrize("words", [[], ["x.png", "--top", "0"], ["x.png", "data.size=5"], ["x.png", "data.resize=fit"],
                                   ["x.png", "--csv", "--json"]])  # fmt: skip
def test_a_line_that_makes_no_sense_is_refused(call, run, words: list[str]) -> None:
    code, out, err = call("predict", run.directory.path, *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_binary_and_regression(call, pictures: Path, tmp_path: Path, task: str) -> None:
    run = fitted(tmp_path / "run", "model=mlp", "model.hidden=[8]", f"task={task}", "data.classes=[3,5]")
    code, out, _ = call("predict", run.directory.path, pictures / "0.png", "--json", "--top", "5")
    assert code == 0
    found, answer = run.predict(np.asarray(Image.open(pictures / "0.png").copy())[None, None]), json.loads(out)
    if task == "regression":
        assert answer["value"] == pytest.approx(float(found.predicted))
    else:
        assert answer["classes"][0]["class"] == run.classes[int(found.predicted)]
        assert sum(one["probability"] for one in answer["classes"]) == pytest.approx(1, abs=1e-5)
    assert call("predict", run.directory.path, pictures, "--csv")[0] == call("predict", run.directory.path, pictures)[0] == 0


def ten_images(run: cnnlab.OpenedRun) -> np.ndarray:
    return all_images(load_data(run.config.data, 0).test)[:10].numpy()


class Silent(Multiclass):
    """A task of one's own that says no probabilities."""

    def __getattribute__(self, name: str) -> Any:
        if name == "probabilities":
            raise AttributeError(name)
        return super().__getattribute__(name)

    def predict(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        probability, label = outputs.softmax(1).max(1)
        return label, probability


def test_a_task_of_ones_own_without_probabilities_is_told_in_one_line(call, pictures: Path, tmp_path: Path) -> None:
    train(tmp_path / "own", f"task._target_={__name__}.Silent", "task.label_smoothing=0.1", "trainer.steps=1")
    code, out, err = call("predict", tmp_path / "own", pictures, f"trust={__name__}")
    assert (code, out) == (2, "")
    assert f"task._target_={__name__}.Silent" in err.splitlines()[-1]


def test_json_has_null_for_what_is_not_a_number(call, run, pictures: Path, monkeypatch) -> None:
    monkeypatch.setattr(Multiclass, "probabilities", lambda self, outputs: outputs * float("nan"))
    code, out, _ = call("predict", run.directory.path, pictures / "0.png", "--json")
    assert code == 0
    assert json.loads(out, parse_constant=pytest.fail)["classes"][0]["probability"] is None
