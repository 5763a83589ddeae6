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


def test_the_table(call, outputs: Path) -> None:
    code, out, err = call("compare", outputs)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "digits: test accuracy on 100 images"
    assert lines[3].split() == ["model", "n", "test", "std", "95", "%", "interval", "validation", "seconds", "parameters"]
    # t(0.975, 2) x 0.01 / sqrt(3) = 0.0248
    assert lines[4].split() == ["1", "lenet", "3", "0.9600", "0.0100", "0.9352", "–", "0.9848", "0.9600", "10.0", "61,706"]
    assert lines[8].split()[:3] == ["2", "mlp", "-0.1400"]
    assert lines[8].endswith("  worse")
    assert max(map(len, lines[:9])) <= 80
    assert "not counted: 1 run\n  diverged: outputs/wild: at step 3\n" in out


def test_json(call, outputs: Path) -> None:
    code, out, err = call("compare", outputs, "--json")
    assert code == 0
    first, second = json.loads(out)
    assert (first["data"], first["test_images"], first["test_digest"], first["metric"]) == ("digits", 100, "b", "accuracy")
    assert ([first["verdict"], first["p"]], second["verdict"]) == ([None, None], "worse")
    assert (first["settings"], second["settings"]) == ({"model": "lenet"}, {"model": "mlp"})
    assert first["test_mean"] == pytest.approx(0.96, rel=1e-12)
    assert "outputs/wild: at step 3" in err


def test_json_of_one_seed_has_null(call, outputs: Path) -> None:
    _, out, _ = call("compare", outputs / "lenet-0", "--json")
    (only,) = json.loads(out)
    assert (only["settings"], only["seeds"], only["test_std"], only["test_interval"]) == ({}, [0], None, None)


def test_csv(call, outputs: Path) -> None:
    code, out, _ = call("compare", outputs, "--csv")
    first, second = csv.DictReader(io.StringIO(out))
    assert code == 0
    assert (first["model"], first["seeds"], first["verdict"], second["verdict"]) == ("lenet", "0 1 2", "", "worse")
    assert float(second["test_std"]) == pytest.approx(0.02)
    assert float(first["test_low"]) < 0.96 < float(first["test_high"])


def test_markdown(call, outputs: Path) -> None:
    fake_run(Path("outputs/odd"), "data.validation=0", validation=None)
    code, out, _ = call("compare", outputs, "--markdown")
    assert code == 0
    table = [line for line in out.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert table[2].startswith("| 1 | lenet | 1000 | 3 | 0.9600 |")
    assert "*without validation" in table[4]


def test_where_and_sort(call, outputs: Path) -> None:
    for arguments in (["--where", "model=mlp"], ["--where=model=mlp"], ["--where", "model=mlp", "seed=0,1,2"]):
        _, out, _ = call("compare", outputs, *arguments, "--json")
        assert [row["parameters"] for row in json.loads(out)] == [61_706]
        assert json.loads(out)[0]["test_mean"] == pytest.approx(0.82)
    _, out, _ = call("compare", outputs, "--sort", "model", "--where", "seed=0", "--where", "optimizer=adam")
    assert [line.split()[:2] for line in out.splitlines()[4:6]] == [["1", "lenet"], ["2", "mlp"]]
    _, out, _ = call("compare", outputs, "--sort", "validation", "--csv")
    assert [line.split(",")[0] for line in out.splitlines()] == ["model", "lenet", "mlp"]


def test_all_rows_without_validation_stand_under_a_line_that_says_so(call) -> None:
    for name in ("sgd", "adam"):
        fake_run(Path("outputs") / name, f"optimizer={name}", "data.validation=0", validation=None)
    _, out, _ = call("compare", "outputs")
    assert out.splitlines()[4].startswith("without validation, so ranked by test accuracy")


def test_files(call, outputs: Path) -> None:
    code, out, err = call("compare", outputs, "--plot", "curves.png", "--html=report.html", "--json")
    assert code == 0
    assert len(json.loads(out)) == 2
    assert err.endswith("wrote curves.png\nwrote report.html\n")
    assert Path("curves.png").read_bytes().startswith(b"\x89PNG")
    assert "against row 1" in Path("report.html").read_text()


def test_a_run_and_its_folder_are_one(call, outputs: Path) -> None:
    _, out, err = call("compare", outputs / "lenet-0", outputs, "--json")
    assert [row["n"] for row in json.loads(out)] == [3, 3]
    assert "counted already" not in err


def test_only_failed_runs(call, outputs: Path) -> None:
    code, out, err = call("compare", outputs / "wild")
    assert (code, err) == (0, "")
    assert "no run with a score" in out
    assert "at step 3" in out
    assert call("compare", outputs / "wild", "--json")[1] == "[]\n"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "expected runs or folders"),
        ("nowhere", "nowhere: no such directory"),
        ("file", "file: a file"),
        ("empty", "empty: no run in it"),
        ("outputs nowhere", "nowhere: no such directory"),
        ("outputs model=lenet", "--where model=lenet shows"),
        ("outputs --where", "expected KEY=VALUE"),
        ("outputs --where modle=lenet", "Did you mean model?"),
        ("outputs --sort tset", "Did you mean test"),
        ("outputs --sort", "expected a value"),
        ("outputs --csv --json", "expected one of them"),
        ("outputs --jsn", "Did you mean --json"),
        ("outputs --plot curves.gif", "ends in .png or .svg or .pdf"),
        ("outputs --plot nowhere/curves.png", "no such directory"),
        ("outputs --html report.txt", "ends in .html"),
        ("outputs --html folder.html", "a directory"),
    ],
)
def test_bad_calls(call, outputs: Path, line: str, says: str) -> None:
    Path("file").touch()
    Path("empty").mkdir()
    Path("folder.html").mkdir()
    code, out, err = call("compare", *line.split())
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_without_matplotlib_it_says_what_to_install(call, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnlab.comparison.curves.find_spec", lambda name: None)
    code, out, err = call("compare", outputs, "--plot", "curves.png")
    assert (code, out) == (2, "")
    assert "pip install 'cnnlab[plots]'" in err


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
    _, out, _ = call("compare", "outputs/lenet-seed0", "outputs/mlp-seed0")
    assert "exact McNemar test" in out
