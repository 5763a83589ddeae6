"""`export`: what another program computes from the file is what the run computes, and what differs is never written."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from small_runs import fitted
from torch import Tensor

import cnnlab
from cnnlab import config
from cnnlab.data import all_images, load_data
from cnnlab.exporting import agreement, formats
from cnnlab.training.checkpoint import save_weights
from cnnlab.training.task import Binary, Multiclass, Regression

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")
for package in ("onnx", "onnxscript"):
    pytest.importorskip(package, reason="needs the extra export")

CONV = ("model=custom", "model._target_=cnnlab.models.ConvNet", "data.normalize=true",
        "model.blocks=[{conv:4,stride:2,padding:same,batch_norm:true,pool:2}]")  # fmt: skip


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def conv(here: Path) -> cnnlab.OpenedRun:
    return fitted(here / "conv", *CONV, "model.head=conv")


@pytest.fixture(scope="module")
def mlp(here: Path) -> cnnlab.OpenedRun:
    return fitted(here / "mlp", "model=mlp", "model.hidden=[8]")


@pytest.fixture(scope="module")
def serialized(conv: cnnlab.OpenedRun) -> formats.Made:
    """Of `conv`, as ONNX: the exporter takes two seconds, of any network."""
    return formats.serialize(conv, "onnx", torch.uint8)


def images_of(run: cnnlab.OpenedRun) -> Tensor:
    return all_images(load_data(run.config.data, 0).test)


def logits_of(run: cnnlab.OpenedRun, images: Tensor) -> Tensor:
    with torch.no_grad():
        return run.model(images)


def test_onnx_of_any_size_says_what_the_run_says(call, conv: cnnlab.OpenedRun, serialized, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(formats, "serialize", lambda *_: serialized)
    file = tmp_path / "net.onnx"
    code, out, err = call("export", conv.directory.path, "--output", file)
    assert (code, err, out.splitlines()[0]) == (0, "", str(file))
    session = onnxruntime.InferenceSession(file.read_bytes())
    assert [(one.type, one.shape) for one in session.get_inputs()] == [("tensor(uint8)", ["batch", 1, "height", "width"])]
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["trained_on"]) == [28, 28]
    assert json.loads(told["classes"]) == list(conv.classes)
    assert json.loads(told["std"]) == list(conv.description.std)
    random = torch.Generator().manual_seed(1)
    for count, height, width in ((2000, 28, 28), (1, 28, 28), (3, 29, 31), (2, 64, 33)):
        images = images_of(conv) if count == 2000 else torch.randint(0, 256, (count, 1, height, width), generator=random)
        given = images.to(torch.uint8)
        found = session.run(["logits"], {"images": given.numpy()})[0]
        np.testing.assert_allclose(found, logits_of(conv, given), rtol=0, atol=1e-5)
    assert str(Path(cnnlab.__file__).parent).encode() not in file.read_bytes()


def test_torch_and_safetensors(call, conv: cnnlab.OpenedRun, mlp: cnnlab.OpenedRun, tmp_path: Path) -> None:
    file, extra = tmp_path / "net.pt2", {"cnnlab.json": ""}
    assert call("export", conv.directory.path, "--to", "torch", "--output", file)[0] == 0
    network = torch.export.load(str(file), extra_files=extra).module()
    for images in (images_of(conv), torch.full((3, 1, 37, 30), 99, dtype=torch.uint8)):
        torch.testing.assert_close(network(images), logits_of(conv, images), rtol=0, atol=1e-6)
    assert json.loads(json.loads(extra["cnnlab.json"])["classes"]) == list(conv.classes)
    assert call("export", mlp.directory.path, "--to", "safetensors")[0] == 0
    file = mlp.directory.path / "model.safetensors"
    weights = load_file(file)
    assert weights.keys() == mlp.network.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in mlp.network.state_dict().items())
    with safe_open(file, "pt") as opened:
        assert json.loads(opened.metadata()["model"]) == mlp.description.model


def test_int8_counts_and_costs_what_it_says(call, conv: cnnlab.OpenedRun, serialized, monkeypatch) -> None:
    monkeypatch.setattr(formats, "serialize", lambda *_: serialized)
    code, out, _ = call("export", conv.directory.path, "--int8")
    assert code == 0
    assert "2 of 2 layers in integers, calibrated on 200 training images" in out
    session = onnxruntime.InferenceSession((conv.directory.path / "model-int8.onnx").read_bytes())
    said, _ = conv.task.predict(torch.from_numpy(session.run(None, {"images": images_of(conv).numpy()})[0]))
    changed = int((said != conv.predict(images_of(conv)).predicted).sum())
    accuracy = (said == load_data(conv.config.data, 0).test.labels).double().mean()
    assert f"another class for {changed:,} of 2,000 test images; accuracy {accuracy:.4f}" in out


@pytest.mark.parametrize("task", ["multiclass", "binary"])
def test_the_documented_program_names_the_classes_of_the_run(request, tmp_path: Path, capsys, monkeypatch, task: str) -> None:
    if task == "multiclass":
        run, made = request.getfixturevalue("conv"), request.getfixturevalue("serialized")
    else:
        run = fitted(tmp_path / "run", "model=mlp", "model.hidden=[8]", "task=binary", "data.classes=[3,5]")
        made = formats.serialize(run, "onnx", torch.uint8)
    page = (config.config_dir().parent / "docs" / "EXPORTING.md").read_text()
    program = re.search(r"^```python\n(# classify\.py\n.*?)^```$", page, re.DOTALL | re.MULTILINE)[1]
    (tmp_path / "net.onnx").write_bytes(made.content)
    images, _ = images_of(run)[:20], capsys.readouterr()
    for image in images:
        Image.fromarray(image[0].numpy()).save(tmp_path / "photo.png")
        monkeypatch.setattr("sys.argv", ["classify.py", str(tmp_path / "net.onnx"), str(tmp_path / "photo.png")])
        exec(program, {})
    said = run.predict(images).predicted.tolist()
    assert capsys.readouterr().out.split() == [run.classes[label] for label in said]
    assert len(set(said)) > 1


def test_one_output(call, tmp_path: Path) -> None:
    run = fitted(tmp_path / "run", "model=mlp", "model.hidden=[8]", "task=regression", "data.classes=[3,5]")
    assert call("export", run.directory.path, "--to", "torch")[0] == 0
    extra = {"cnnlab.json": ""}
    network = torch.export.load(str(run.directory.path / "model.pt2"), extra_files=extra).module()
    torch.testing.assert_close(network(images_of(run)), logits_of(run, images_of(run)), rtol=0, atol=1e-5)
    assert json.loads(extra["cnnlab.json"])["output"].startswith("value: ")


def test_agreement_by_hand() -> None:
    ours = torch.tensor([[1.0, 2.0, 0.0], [1.0, 1.00005, 0.0], [1.0, 1.1, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    theirs = ours.clone()
    assert agreement.agreement(Multiclass(3), ours, theirs) == agreement.Agreement(4, 0, 0, 0.0)
    theirs[1, 0], theirs[2, 0], theirs[3, 1] = 1.0001, 1.2, torch.nan
    found = agreement.agreement(Multiclass(3), ours, theirs)
    assert (found.ties, found.differing, found.largest) == (1, 2, pytest.approx(0.2))
    with pytest.raises(cnnlab.errors.ExportError, match="2 of 4 images"):
        found.require("the file")
    one = torch.tensor([[0.00005], [3.0], [1000.0]], dtype=torch.float64)
    assert agreement.agreement(Binary(2), one, -one) == agreement.Agreement(3, 1, 2, 2000.0)
    assert agreement.agreement(Regression([3, 5]), one, one + 0.01).differing == 2  # 0.01 is within 1e-4 of 1000


def test_a_file_that_says_otherwise_is_not_written(call, mlp: cnnlab.OpenedRun, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(formats, "read", lambda *_: lambda images: -logits_of(mlp, images))
    file = tmp_path / "net.safetensors"
    code, _, err = call("export", mlp.directory.path, "--to", "safetensors", "--output", file)
    assert (code, err.count("\n"), list(tmp_path.glob("*net*"))) == (2, 1, [])


OWN = """
from torch import nn


class Branches(nn.Sequential):
    def __init__(self, num_outputs, input_shape):
        super().__init__(nn.Flatten(), nn.Linear(784, num_outputs))

    def forward(self, images):
        outputs = super().forward(images)
        return outputs if outputs.sum() > 0 else 2 * outputs
"""


def test_what_cannot_be_traced_is_told_in_a_line(call, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "branches_mine.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    run = fitted(tmp_path / "run", "model=custom", "model._target_=branches_mine.Branches")
    assert call("export", run.directory.path)[0] == 2
    for to, expected in (("torch", 2), ("safetensors", 0)):
        code, _, err = call("export", run.directory.path, "--to", to, "trust=branches_mine")
        assert (code, err.count("\n")) == (expected, expected // 2), err


def test_without_the_data_random_images_are_compared(call, tmp_path: Path, data_root: Path) -> None:
    run = fitted(tmp_path / "run", "data=mnist", f"data.root={data_root}", "model=mlp", "data.limit=100")
    moved = data_root.rename(tmp_path / "moved")
    code, out, _ = call("export", run.directory.path, "--to", "safetensors")
    assert (code, "1,000 random images" in out) == (0, True)
    assert call("export", run.directory.path, "--int8")[0] == 2
    code, out, _ = call("export", run.directory.path, "--to", "safetensors", "--overwrite", f"data.root={moved}")
    assert (code, "100 test images" in out) == (0, True)


@pytest.mark.parametrize("words", [["--to", "tflite"], ["--int8", "--to", "torch"], ["--output", "nowhere/net.onnx"],
                                   ["--output", "net.pt"], ["data.size=40"], ["data.root=nowhere", "data=mnist"], ["more"],
                                   ["--to", "safetensors", "--overwrite", "--output", "{run}/last.safetensors"],
                                   ["--output", "there.onnx"]])  # fmt: skip
def test_a_line_that_makes_no_sense_is_refused(call, mlp: cnnlab.OpenedRun, tmp_path: Path, monkeypatch, words) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.onnx").write_text("mine")
    before = mlp.directory.last.read_bytes()
    code, out, err = call("export", mlp.directory.path, *(word.format(run=mlp.directory.path) for word in words))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert (Path("there.onnx").read_text(), mlp.directory.last.read_bytes()) == ("mine", before)


def test_a_missing_package_and_a_full_disk(call, mlp: cnnlab.OpenedRun, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cnnlab.tracking.files.write_atomic", full)
    assert call("export", mlp.directory.path, "--to", "safetensors", "--overwrite")[0] == 4
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxscript" else object())
    code, _, err = call("export", mlp.directory.path, "--output", tmp_path / "net.onnx")
    assert (code, "onnxscript" in err, "cnnlab[export]" in err) == (2, True, True)


def test_outputs_that_overflow_are_refused(call, tmp_path: Path) -> None:
    run = fitted(tmp_path / "run", "model=lenet", "model.hidden=[]")
    network = run.network
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1e30)
    save_weights(run.directory.last, network, run.description)
    for command in (("export", "--to", "safetensors"), ("convert",)):
        code, out, err = call(command[0], run.directory.path, *command[1:])
        assert (code, out, err.count("\n"), "not finite" in err) == (2, "", 1, True)
    assert not (run.directory.path / "model.safetensors").exists()
