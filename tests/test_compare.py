"""`compare` as a person calls it."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from fake_runs import failed_run, fake_run


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def outputs() -> Path:
    """lenet and mlp with three seeds each, and a run that diverged."""
    for seed in range(3):
        fake_run(Path(f"outputs/lenet-{seed}"), seed=seed, test=0.95 + 0.01 * seed, validation=0.96, wrong=[1])
        fake_run(Path(f"outputs/mlp-{seed}"), "model=mlp", seed=seed, test=0.8 + 0.02 * seed, validation=0.8, wrong=[1])
    failed_run(Path("outputs/wild"), "optimizer.lr=100")
    return Path("outputs")


def test_every_form_holds_the_same_numbers(call, outputs: Path) -> None:
    code, out, err = call("compare", outputs, "--json")
    rows = json.loads(out)
    assert (code, err.count("outputs/wild"), [row["settings"]["model"] for row in rows]) == (0, 1, ["lenet", "mlp"])
    assert (rows[0]["metric"], rows[0]["verdict"], rows[0]["p"], rows[1]["verdict"]) == ("accuracy", None, None, "worse")
    assert [row["test_mean"] for row in rows] == pytest.approx([0.96, 0.82], rel=1e-12)
    # t(0.975, 2) x 0.01 / sqrt(3) = 0.0248
    assert rows[0]["test_interval"] == pytest.approx([0.96 - 0.0248, 0.96 + 0.0248], abs=1e-4)
    _, out, _ = call("compare", outputs, "--csv")
    for row, line in zip(rows, csv.DictReader(io.StringIO(out)), strict=True):
        assert (line["model"], line["seeds"], line["verdict"]) == (row["settings"]["model"], "0 1 2", row["verdict"] or "")
        assert [float(line[key]) for key in ("test_mean", "test_low")] == [row["test_mean"], row["test_interval"][0]]
    for form in ([], ["--markdown"]):
        code, out, _ = call("compare", outputs, *form)
        lenet, mlp = (next(line for line in out.splitlines() if f" {model} " in line) for model in ("lenet", "mlp"))
        assert (code, "0.9600" in lenet, "0.0100" in lenet, "0.8200" in mlp, "61,706" in mlp) == (0, True, True, True, True)
    _, out, _ = call("compare", outputs / "lenet-0", "--json")
    (only,) = json.loads(out)
    assert (only["settings"], only["seeds"], only["test_std"], only["test_interval"]) == ({}, [0], None, None)
    assert call("compare", outputs / "wild", "--json")[:2] == (0, "[]\n")


def test_where_and_sort(call, outputs: Path) -> None:
    for arguments in (["--where", "model=mlp"], ["--where=model=mlp"], ["--where", "model=mlp", "seed=0,1,2"]):
        _, out, _ = call("compare", outputs, *arguments, "--json")
        assert [row["parameters"] for row in json.loads(out)] == [61_706]
        assert json.loads(out)[0]["test_mean"] == pytest.approx(0.82)
    _, out, _ = call("compare", outputs, "--sort", "model", "--where", "seed=0", "--where", "optimizer=adam")
    assert [line.split()[:2] for line in out.splitlines()[5:7]] == [["1", "lenet"], ["2", "mlp"]]
    _, out, _ = call("compare", outputs, "--sort", "validation", "--csv")
    assert [line.split(",")[0] for line in out.splitlines()] == ["model", "lenet", "mlp"]


def test_top_shows_fewer_rows_of_the_same_tests(call, outputs: Path) -> None:
    _, out, _ = call("compare", outputs, "--json")
    for arguments, kept in ((["--top", "1"], 0), (["--top=1", "--sort", "model"], 0), (["--sort", "std", "--top", "1"], 0)):
        assert json.loads(call("compare", outputs, "--json", *arguments)[1]) == json.loads(out)[kept : kept + 1]
    lines = call("compare", outputs, "--top", "1")[1].splitlines()
    assert [line.split()[0] for line in lines if line[:1].isdigit()] == ["1", "1"]  # the row, and "1 of 2 rows"


def test_a_row_a_run(call, outputs: Path) -> None:
    (fake_run(Path("outputs/half"), "model=mlp", seed=9, curve=[0.5, 0.625]) / "result.json").unlink()
    lines = list(csv.DictReader(io.StringIO(call("compare", outputs, "--csv", "--runs")[1])))
    assert [line["run"] for line in lines] == sorted(line["run"] for line in lines)
    by_name = {Path(line["run"]).name: line for line in lines}
    assert len(by_name) == 8
    assert [by_name["mlp-1"][key] for key in ("model", "seed", "status")] == ["mlp", "1", "finished"]
    assert float(by_name["mlp-1"]["test"]) == pytest.approx(0.82)  # the mean of fake predictions
    half = [by_name["half"][key] for key in ("model", "status", "epochs", "test", "validation")]
    assert half == ["mlp", "interrupted", "2", "", "0.625"]
    told = call("compare", outputs)[1].splitlines()
    at = told.index("  interrupted: outputs/half")
    assert "0.6250" in told[at + 1]
    assert told[at + 2] == "    python -m cnnlab.train resume=outputs/half"


def test_files(call, outputs: Path) -> None:
    code, out, _ = call("compare", outputs, "--plot", "curves.png", "--html=report.html", "--json")
    assert code == 0
    assert len(json.loads(out)) == 2
    assert Path("curves.png").read_bytes().startswith(b"\x89PNG")
    assert Path("report.html").read_text().count("class=matrix") == 2


def test_a_run_and_its_folder_are_one(call, outputs: Path) -> None:
    _, out, err = call("compare", outputs / "lenet-0", outputs, "--json")
    assert [row["n"] for row in json.loads(out)] == [3, 3]
    assert "counted already" not in err


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("", "compare"),
        ("nowhere", "nowhere"),
        ("file", "file"),
        ("outputs empty", "empty"),
        ("outputs model=lenet", "model=lenet"),
        ("outputs --where", "--where"),
        ("outputs --where modle=lenet", "modle"),
        ("outputs --where optimizer.lrr=1", "optimizer.lrr"),
        ("outputs --where model=allconv", "model=allconv"),
        ("outputs --where model=[", "model=["),
        ("outputs --sort tset", "--sort tset"),
        ("outputs --sort", "--sort"),
        ("outputs --csv --json", "--csv --json"),
        ("outputs --top 0", "--top 0"),
        ("outputs --top all", "--top all"),
        ("outputs --runs", "--runs"),
        ("outputs --runs --markdown", "--runs"),
        ("outputs --runs --csv --top 1", "--top"),
        ("outputs --jsn", "--jsn"),
        ("outputs --plot curves.gif", "--plot curves.gif"),
        ("outputs --plot nowhere/curves.png", "--plot nowhere/curves.png"),
        ("outputs --html report.txt", "--html report.txt"),
        ("outputs --html folder.html", "--html folder.html"),
    ],
)
def test_bad_calls(call, outputs: Path, line: str, key: str) -> None:
    Path("file").touch()
    Path("empty").mkdir()
    Path("folder.html").mkdir()
    code, out, err = call("compare", *line.split())
    assert (code, out, err.count("\n"), key in err) == (2, "", 1, True)


def test_without_matplotlib(call, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnlab.plots.find_spec", lambda name: None)
    code, out, err = call("compare", outputs, "--plot", "curves.png")
    assert (code, out, err.count("\n"), "matplotlib" in err) == (2, "", 1, True)


def test_torch_is_not_loaded(outputs: Path) -> None:
    code = (
        "import sys; from cnnlab import compare; "
        "compare.main(['outputs', '--plot', 'curves.png', '--html', 'report.html']); "
        "loaded = {'torch', 'matplotlib.pyplot', 'scipy.stats', 'tensorboard'} & set(sys.modules); "
        "sys.exit(f'loads {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_real_runs_end_to_end(call, data_root: Path) -> None:
    quick = (
        "data=mnist",
        f"data.root={data_root}",
        "data.validation=100",
        "trainer.steps=2",
        "trainer.threads=1",
        "console=quiet",
    )
    assert call("train", "-m", *quick, "model=lenet,mlp", "seed=0,1", "hydra.sweep.dir=outputs")[0] == 0
    assert call("train", *quick, "model=mlp", "optimizer.lr=1e30", "hydra.run.dir=outputs/wild")[0] == 3
    code, out, err = call("compare", "outputs", "--json", "--html", "report.html")
    assert code == 0
    rows = json.loads(out)
    assert {row["settings"]["model"] for row in rows} == {"lenet", "mlp"}
    results = [json.loads(Path(f"outputs/lenet-seed{n}/result.json").read_text())["test"]["accuracy"] for n in (0, 1)]
    lenet = next(row for row in rows if row["settings"]["model"] == "lenet")
    assert lenet["test_mean"] == pytest.approx(sum(results) / 2, rel=1e-12)
    assert (lenet["parameters"], lenet["seeds"]) == (61_706, [0, 1])
    assert "diverged: outputs/wild" in err
    assert Path("report.html").read_text().count("class=matrix") == 2
