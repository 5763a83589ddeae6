"""`convert` writes a run that opens, is scored at other sizes, asked and mapped."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import fitted

import cnnlab
from cnnlab import score_map as maps
from cnnlab.data import all_images, load_data
from cnnlab.errors import GeometryError
from cnnlab.tracking.run import RunDirectory


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> cnnlab.OpenedRun:
    return fitted(tmp_path_factory.mktemp("convert") / "run", "model=lenet", "data.normalize=true")


@pytest.fixture(scope="module")
def converted(lenet: cnnlab.OpenedRun) -> cnnlab.OpenedRun:
    assert cnnlab.cli.run("convert", [str(lenet.directory.path)]) == 0
    return cnnlab.load(f"{lenet.directory.path}-conv")


def test_a_conversion_that_is_stopped_can_be_repeated(
    call, lenet: cnnlab.OpenedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise SystemExit(143)

    command = ("convert", lenet.directory.path, "--output", tmp_path / "to")
    monkeypatch.setattr(RunDirectory, "begin", stopped)
    with pytest.raises(SystemExit):
        call(*command)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as if killed
    with pytest.raises(SystemExit):
        call(*command)
    assert not (tmp_path / "to").exists()
    monkeypatch.undo()
    assert call(*command)[0] == 0
    assert cnnlab.load(tmp_path / "to").weights == "last"


def test_the_converted_run_gives_the_same_answers(call, lenet: cnnlab.OpenedRun, converted: cnnlab.OpenedRun) -> None:
    images = all_images(load_data(lenet.config.data, 0).test)
    with torch.no_grad():
        torch.testing.assert_close(converted.model(images), lenet.model(images), rtol=0, atol=1e-5)
    assert (converted.classes, converted.weights, converted.result) == (lenet.classes, "last", None)
    scores = [call("evaluate", run.directory.path)[1].splitlines()[3] for run in (lenet, converted)]
    assert scores[0].split("loss")[0] == scores[1].split("loss")[0]
    assert call("export", converted.directory.path, "--to", "safetensors")[0] == 0
    code, _, err = call("train", f"resume={converted.directory.path}", "trainer.epochs=9")
    assert (code, err.count("\n")) == (2, 1)


def test_other_sizes_are_scored_where_the_network_takes_them(call, lenet, converted) -> None:
    code, out, _ = call("evaluate", converted.directory.path, "data.size=40")
    data = load_data(lenet.config.data, 0).test
    larger = torch.nn.functional.interpolate(
        all_images(data).double(), (40, 40), mode="bilinear", antialias=True, align_corners=False
    )
    found = converted.model((larger.round().clamp(0, 255)).to(torch.uint8)).argmax(1)
    assert (code, "40 x 40" in out) == (0, True)
    accuracy = float(out.split("test accuracy ")[1].split()[0])
    assert accuracy == pytest.approx((found == data.labels).double().mean().item(), abs=0.002)  # rounding of half pixels
    own = [call("evaluate", run.directory.path, *more)[1] for run in (lenet,) for more in ((), ("data.size=28",))]
    assert own[0].splitlines()[3] == own[1].splitlines()[3]
    for run, size in ((lenet, 40), (converted, 12), (converted, 0)):
        code, out, err = call("evaluate", run.directory.path, f"data.size={size}")
        assert (code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(("data", "model"), [("digit-rows", "signal"), ("moving-digits", "clip")])
def test_signals_and_clips(call, tmp_path: Path, data: str, model: str) -> None:
    run = fitted(tmp_path / "run", f"data={data}", f"model={model}", "model.head=flatten", "trainer.steps=2")
    assert call("convert", run.directory.path)[0] == 0
    made = cnnlab.load(f"{run.directory.path}-conv")
    images = all_images(load_data(run.config.data, 0).test)[:50]
    with torch.no_grad():
        torch.testing.assert_close(made.model(images), run.model(images), rtol=0, atol=1e-5)
        longer = torch.cat([images, images], -1)
        assert made.model(longer).shape == (50, len(run.classes))
    code, out, err = call("evaluate", made.directory.path, "data.size=40")  # of images alone
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_what_cannot_be_converted_or_written_is_told_in_a_line(call, lenet, converted, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    for words in ([converted.directory.path], [lenet.directory.path], [tmp_path / "none"], [],
                  [lenet.directory.path, "--output", blocked / "inside"], [lenet.directory.path, "data.size=3"]):  # fmt: skip
        code, out, err = call("convert", *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
    assert not Path(f"{converted.directory.path}-conv").exists()


def test_the_map_of_a_canvas_has_the_logits_of_its_windows(call, lenet, converted, tmp_path: Path, monkeypatch) -> None:
    images = all_images(load_data(lenet.config.data, 0).test)[:3, 0].numpy()
    canvas = np.zeros((90, 130), np.uint8)
    for image, (y, x) in zip(images, ((0, 0), (52, 60), (8, 92)), strict=True):
        canvas[y : y + 28, x : x + 28] = image
    found = maps.score_map(converted, canvas[None])
    assert (found.step, found.scores.shape) == ((4, 4), (10, 16, 26))
    assert found.center(0, 0) == (14.5, 14.5)  # of 16 places 4 pixels apart in the middle of 90
    inside = maps.score_map(converted, canvas[None, 52:80, 60:88])
    torch.testing.assert_close(inside.scores.flatten(), lenet.model(torch.tensor(images[1:2])[None])[0], rtol=0, atol=1e-5)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(canvas).save("canvas.png")
    Image.fromarray(255 - canvas).convert("RGB").save("Canvas.jpg", quality=100)
    Image.fromarray(canvas[:20, :20]).save("small.png")
    (tmp_path / "maps").mkdir()
    shutil.copy("canvas.png", "maps/canvas.png")
    code, out, err = call("predict", converted.directory.path, "canvas.png", "maps", "small.png", "--map")
    assert (code, err.count("\n"), "small.png" in err) == (2, 1, True)
    assert [word for word in out.split() if word.endswith(".png")] == ["canvas-map.png", "canvas_2-map.png"]
    _, _, err = call("predict", converted.directory.path, "canvas.png", "--map")
    assert (err.count("\n"), "canvas-map.png: replaced" in err) == (1, True)
    with Image.open("canvas-map.png") as picture:
        assert (picture.format, picture.width) == ("PNG", 1100)
    assert call("predict", converted.directory.path, "Canvas.jpg", "--map", "--invert", "--output", "new/maps")[0] == 0
    assert Path("new/maps/Canvas-map.png").exists()


def test_peaks_by_hand() -> None:
    scores = torch.zeros(2, 5, 6)
    scores[0, 1, 1], scores[1, 1, 2], scores[1, 4, 5], scores[0, 3, 0] = 9, 8, 6, 4  # 8 and 4 are beaten by a neighbor
    scores[0, 4, 2] = 1.3  # of e^1.3 + 1 the share 0.79: no class is clear
    found = maps.ScoreMap(scores, ("a", "b"), (4, 4), (13.5, 20.0), (4, 4))
    assert maps.peaks(found, (12, 12)) == [maps.Peak("a", 9.0, 17.5, 24.0), maps.Peak("b", 6.0, 29.5, 40.0)]
    assert found.clear.sum() == 4
    one = maps.ScoreMap(torch.tensor([[[1.3, 1.5]], [[-1.3, -1.5]]]), ("a", "b"), (4, 4), (0, 0), (4, 4))
    assert one.clear.tolist() == [[False, True]]  # the sigmoid of 1.3 is 0.79, of 1.5 it is 0.82


@pytest.mark.parametrize("words", [["--map"], ["--map", "--json"], ["--map", "--top", "2"], ["--output", "."],
                                   ["--map", "--output", __file__]])  # fmt: skip
def test_a_map_that_cannot_be_made_is_refused(call, lenet, tmp_path: Path, words: list[str]) -> None:
    code, out, err = call("predict", lenet.directory.path, tmp_path / "any.png", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_global_pooling_and_binary_give_maps_and_regression_none(call, tmp_path: Path) -> None:
    average = ("model=custom", "model._target_=cnnlab.models.ConvNet", "model.blocks=[{conv:4,pool:2}]",
               "model.head=global_average", "task=binary", "data.classes=[3,5]")  # fmt: skip
    run = fitted(tmp_path / "average", *average)
    picture = np.random.default_rng(0).integers(0, 256, (1, 31, 44), np.uint8)
    found = maps.score_map(run, picture)
    logit = run.model(torch.from_numpy(picture)[None])[0, 0]
    assert found.names == ("3", "5")
    torch.testing.assert_close(found.scores.mean((1, 2)), torch.stack([-logit, logit]), rtol=0, atol=1e-5)
    low = torch.full((3, 4), 0.2)
    weak = maps.ScoreMap(torch.stack([low, -low]), ("3", "5"), (8, 8), (8.0, 8.0), (8, 8))
    with Image.open(io.BytesIO(maps.draw(picture, weak, [], "weak", "of a run"))) as drawn:
        blue = np.asarray(drawn.convert("RGB")).astype(int)[:, 600:900] @ (-1, 0, 1) > 50
    assert blue.mean() > 0.2  # not black: what is below 0 speaks for the first class
    Image.fromarray(picture[0]).save(tmp_path / "noise.png")
    assert call("predict", run.directory.path, tmp_path / "noise.png", "--map", "--output", tmp_path)[0] == 0
    backbone = fitted(tmp_path / "backbone", "model=pretrained", "model.backbone=shufflenet_v2_x0_5", "model.weights=none",
                      "trainer.epochs=1", "trainer.steps=1")  # fmt: skip
    found = maps.score_map(backbone, picture)
    assert (found.step, found.scores.shape) == ((32, 32), (10, 1, 2))
    torch.testing.assert_close(found.scores.mean((1, 2)), backbone.model(torch.from_numpy(picture)[None])[0], rtol=0, atol=1e-4)
    assert found.frame == (32, 32)
    with pytest.raises(GeometryError, match="too small"):
        maps.score_map(backbone, picture[:, :30, :30])
    values = fitted(tmp_path / "values", *average[:4], "task=regression")
    code, _, err = call("predict", values.directory.path, tmp_path / "noise.png", "--map")
    assert (code, err.count("\n")) == (2, 1)
