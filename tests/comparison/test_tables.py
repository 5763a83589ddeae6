"""Reading, filtering, grouping and ranking runs."""

import json
from pathlib import Path

import pytest
from conftest import choices
from fake_runs import composed, failed_run, fake_run

from cnnlab import config
from cnnlab.comparison import layout, presentation
from cnnlab.comparison.filters import matching
from cnnlab.comparison.runs import LeftOut, Run, find_runs, read_runs
from cnnlab.comparison.tables import Table, configurations, in_order, sort_rows, tables
from cnnlab.errors import ConfigError
from cnnlab.status import Status
from cnnlab.tracking.records import Result


def read(*paths: Path) -> list[Run]:
    runs = [run for run in read_runs([str(path) for path in paths]) if isinstance(run, Run)]
    assert len(runs) == len(read_runs([str(path) for path in paths]))
    return runs


def only_table(*paths: Path) -> Table:
    (table,) = tables(configurations(read(*paths))[0])
    return table


@pytest.mark.parametrize("model", choices("model"))
def test_the_fast_reader_reads_what_the_checked_one_does(tmp_path: Path, model: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(composed((f"model={model}", "augment=[flip,crop]", "optimizer.lr=1e-5", "data.validation=0.1"))[0])
    assert config.read_flat(path) == config.flat(config.read(path))
    assert config.recipe(config.read_flat(path)) == config.recipe(config.read(path))


def test_runs_are_found_in_order_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b/2", "b/1", "a"):
        fake_run(Path("outputs") / name)
    fake_run(Path("outputs/a/inner"))  # within a run
    fake_run(Path("outputs/.hidden"))
    Path("outputs/configs").mkdir()
    Path("outputs/configs/config.yaml").write_text("seed: 0\nmodel: {}\n")  # no record: not a run
    Path("link").symlink_to("outputs/a")
    assert [str(run.path) for run in find_runs("outputs")] == ["outputs/a", "outputs/b/1", "outputs/b/2"]
    names = [run.directory.name for run in read(Path("outputs/b/2"), Path("outputs"), Path("link"), tmp_path)]
    assert names == ["outputs/b/2", "outputs/a", "outputs/b/1"]


def result_with(test: bytes) -> bytes:
    """A result.json with this test score."""
    return json.dumps(Result(Status.FINISHED, metric="accuracy").content()).encode()[:-1] + b', "test": ' + test + b"}"


def test_what_has_no_score_is_left_out_with_its_cause(tmp_path: Path) -> None:
    fake_run(tmp_path / "good")
    (fake_run(tmp_path / "killed") / "result.json").unlink()
    for name, status in (("diverged", "diverged"), ("stopped", "interrupted"), ("full", "failed")):
        failed_run(tmp_path / name, status=Status(status), cause=f"why {name}")
    rows, left_out = configurations(read_runs([str(tmp_path)]))
    assert [run.directory.path.name for row in rows for run in row.runs] == ["good"]
    assert {Path(one.name).name: one.status for one in left_out} == {
        "diverged": "diverged", "stopped": "interrupted", "full": "failed", "killed": "interrupted",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "content"),
    [
        *(("config.yaml", text) for text in (b"{", b"\xff\xfe\x00", b"", b"3", b"a: b", b"seed: x\nmodel: {}\n")),
        *(("environment.json", text) for text in (b"{", b"[]")),
        *(("result.json", text) for text in (b"", b"[1]", b"\xff", result_with(b"{}"))),
        *(("result.json", result_with(b'{"loss": 1, "accuracy": %b}' % value)) for value in (b"null", b"NaN", b'"good"')),
    ],
)
def test_a_broken_file_costs_one_run_only(tmp_path: Path, file: str, content: bytes) -> None:
    fake_run(tmp_path / "good")
    (fake_run(tmp_path / "bad", seed=1) / file).write_bytes(content)
    rows, left_out = configurations(read_runs([str(tmp_path)]))
    assert [run.directory.path.name for row in rows for run in row.runs] == ["good"]
    (broken,) = left_out
    assert broken.status == "failed"
    assert file in broken.cause
    assert "\n" not in broken.cause


def test_seeds_are_grouped(tmp_path: Path) -> None:
    for seed, test in ((2, 0.94), (0, 0.90), (1, 0.92)):
        fake_run(tmp_path / f"lenet-{seed}", seed=seed, test=test, validation=test + 0.01, seconds=10 + seed)
        fake_run(tmp_path / f"mlp-{seed}", "model=mlp", "trainer.threads=1", seed=seed, test=0.8, validation=0.8)
    table = only_table(tmp_path)
    first, second = table.rows
    assert (table.columns, table.common["optimizer"]) == (["model"], "adam")
    assert (first.seeds, first.n, second.n) == ([0, 1, 2], 3, 3)
    assert (first.test.mean, first.test.std) == (pytest.approx(0.92), pytest.approx(0.02))
    assert (first.validation_mean, first.seconds, first.parameters) == (pytest.approx(0.93), pytest.approx(11), 61_706)


def test_integers_and_floats_are_the_same_setting(tmp_path: Path) -> None:
    for name, rate in (("a", "1"), ("b", "1.0")):
        fake_run(tmp_path / name, f"optimizer.lr={rate}", seed=len(list(tmp_path.iterdir())))
    assert only_table(tmp_path).rows[0].n == 2


def test_of_two_runs_of_one_seed_the_later_counts(tmp_path: Path) -> None:
    fake_run(tmp_path / "z-early", test=0.5, ended=100)
    fake_run(tmp_path / "a-late", test=0.7, ended=200)
    fake_run(tmp_path / "b-earliest", test=0.6, ended=50)
    rows, left_out = configurations(read(tmp_path))
    assert [(row.n, row.test.mean) for row in rows] == [(1, 0.7)]
    assert {Path(one.name).name for one in left_out} == {"z-early", "b-earliest"}
    assert all("counted already" in one.cause for one in left_out)


def test_validation_ranks_and_rows_without_it_come_last(tmp_path: Path) -> None:
    scores = {"sgd": (0.95, 0.90), "adam": (0.94, 0.92), "adamw": (0.99, None), "rmsprop": (0.98, None)}
    for name, (test, validation) in scores.items():
        held_out = ["data.validation=0"] if validation is None else []
        fake_run(tmp_path / name, f"optimizer={name}", *held_out, test=test, validation=validation)
    table = only_table(tmp_path)
    assert [row.runs[0].choices["optimizer"] for row in table.rows] == ["adam", "sgd", "adamw", "rmsprop"]


def test_where_less_is_better(tmp_path: Path) -> None:
    for name, error in (("sgd", 2.0), ("adam", 1.0), ("adamw", 3.0)):
        fake_run(tmp_path / name, f"optimizer={name}", "task=regression", metric="mae", test=error, validation=error)
    table = only_table(tmp_path)
    assert [row.test.mean for row in table.rows] == [1, 2, 3]
    assert [row.test.mean for row in sort_rows(table.rows[::-1], "test", [])] == [1, 2, 3]


def test_other_images_and_other_metrics_stand_apart(tmp_path: Path) -> None:
    """Two data roots, one with inverted images; two more of before the digest was recorded; another task; fewer images."""
    for seed in range(2):
        fake_run(tmp_path / f"a{seed}", seed=seed, test=0.94)
        fake_run(tmp_path / f"b{seed}", seed=seed + 2, test=0.06, images="inverted")
        fake_run(tmp_path / f"c{seed}", f"data.root=/old{seed}", seed=seed + 4, images=None)
    fake_run(tmp_path / "d", "task=regression", metric="mae")
    few = fake_run(tmp_path / "e") / "environment.json"
    few.write_text(few.read_text().replace('"test": 100', '"test": 50'))
    made = tables(configurations(read(tmp_path))[0])
    assert sorted((table.metric, table.measured_on.images, table.measured_on.digest, table.rows[0].n) for table in made) == [
        ("accuracy", 50, "b", 1),
        ("accuracy", 100, "b", 2),
        ("accuracy", 100, "inverted", 2),
        ("accuracy", 100, "root /old0", 1),
        ("accuracy", 100, "root /old1", 1),
        ("mae", 100, "b", 1),
    ]


def test_other_training_images_are_another_configuration(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", test=0.94)
    path = fake_run(tmp_path / "b", seed=1, test=0.06) / "environment.json"
    path.write_text(path.read_text().replace('"train_digest": "a"', '"train_digest": "noisy"'))
    table = only_table(tmp_path)
    assert table.columns == ["data.train_digest"]
    assert [row.n for row in table.rows] == [1, 1]


def test_sorting(tmp_path: Path) -> None:
    for name, rate, seconds, test in (("a", 0.1, 3, 0.7), ("b", 0.01, 1, 0.9), ("c", 0.001, 2, 0.8)):
        fake_run(tmp_path / name, f"optimizer.lr={rate}", seconds=seconds, test=test)
    fake_run(tmp_path / "d", "optimizer.lr=1", seconds=None, test=0.6)
    table = only_table(tmp_path)

    def order(column: str) -> list[str]:
        return [row.runs[0].directory.path.name for row in sort_rows(table.rows, column, table.columns)]

    assert order("seconds") == ["b", "c", "a", "d"]  # what is not known comes last
    assert order("test") == ["b", "c", "a", "d"]
    assert order("optimizer.lr") == ["c", "b", "a", "d"]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["model=lenet"], "ab"),
        (["model=lenet,mlp"], "abc"),
        (["optimizer.lr=1e-2"], "b"),
        (["optimizer.lr=0.010"], "b"),
        (["model=lenet", "optimizer.lr=0.001"], "a"),
        (["model.hidden=[128]"], "c"),
        (["model.hidden=[128],[120,84]"], "abc"),
        (["trainer.steps=null"], "abc"),
        (["trainer.deterministic=false"], "abc"),
        (["seed=0"], "abc"),
        (["optimizer._target_=torch.optim.Adam"], "abc"),
        (["augment=[flip]"], "c"),
    ],
)
def test_where(tmp_path: Path, conditions: list[str], expected: str) -> None:
    fake_run(tmp_path / "a")
    fake_run(tmp_path / "b", "optimizer.lr=0.01")
    fake_run(tmp_path / "c", "model=mlp", "augment=[flip]")
    kept = [run for run in matching(read(tmp_path), conditions) if isinstance(run, Run)]
    assert "".join(run.directory.path.name for run in kept) == expected


@pytest.mark.parametrize("value", ["9" * 5000, "2001-13-99", "[" * 5000])
def test_where_with_what_is_no_value(tmp_path: Path, value: str) -> None:
    fake_run(tmp_path / "a")
    with pytest.raises(ConfigError):
        matching(read(tmp_path), [f"seed={value}"])


def test_where_holds_for_runs_without_a_score_too(tmp_path: Path) -> None:
    fake_run(tmp_path / "a")
    for name, rate in (("b", 0.5), ("c", 0.7)):
        failed_run(tmp_path / name, f"optimizer.lr={rate}")
    (fake_run(tmp_path / "d") / "config.yaml").write_text("{")
    kept = matching(read_runs([str(tmp_path)]), ["optimizer.lr=0.5"])
    assert [Path(run.name).name for run in kept if isinstance(run, LeftOut)] == ["b", "d"]
    assert len(kept) == 2


def test_a_run_that_has_not_ended_follows_without_a_rank_with_its_validation_score_so_far(tmp_path: Path) -> None:
    for name, model in (("a", "lenet"), ("b", "mlp")):
        fake_run(tmp_path / name, f"model={model}", test=0.9 if name == "a" else 0.8)
    for name, curve in (("c", (0.1, 0.2)), ("d", (0.5, 0.3, 0.4)), ("other", (0.6,))):
        (
            fake_run(tmp_path / name, "model=conv7", curve=curve, images=None if name == "other" else "b") / "result.json"
        ).unlink()
    runs = read_runs([str(tmp_path)])
    (table,) = tables(*configurations(runs))
    assert [(Path(one.name).name, one.validation) for one in table.unfinished] == [("d", 0.4), ("c", 0.2)]
    rows = presentation.unfinished(table)
    assert [len(row) for row in rows] == [len(presentation.headings(table))] * 2
    assert rows[0][:2] == ["", "conv7"]
    assert {"0.4000", "interrupted, epoch 3"} < set(rows[0])
    lines, _ = layout.lines(table, in_order(table), 80)
    assert [line.split()[-1] for line in lines[3:]] == ["d", "c"]
    assert max(map(len, lines)) <= 80


def test_damaged_metrics_leave_a_run_what_its_result_says(tmp_path: Path) -> None:
    fake_run(tmp_path / "ended")
    failed_run(tmp_path / "diverged")
    (fake_run(tmp_path / "killed") / "result.json").unlink()
    for name in ("ended", "diverged", "killed"):
        (tmp_path / name / "metrics.jsonl").write_text('{"epoch": "x"}\n{}\n')
    found = {Path(run.name).name: run for run in read_runs([str(tmp_path)])}
    assert isinstance(found["ended"], Run)
    assert (found["diverged"].status, found["killed"].status) == (Status.DIVERGED, Status.INTERRUPTED)
    assert isinstance(found["killed"], LeftOut)
    assert "metrics.jsonl" in found["killed"].cause
