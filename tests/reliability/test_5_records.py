"""Row 5: what a run or a sweep recorded that is malformed: one line that names the thing, exit 2, nothing lost."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from made import SWEPT, copied, edit_json, put, searching
from malformed import place as place
from malformed import refuses, resume
from protocol import share

RECORDS = (
    "", "{", "[]", "3", "null", '"x"', "{}}", "\xff", "[" * 100_000, '{"a": NaN}', '{"a": 1e999}', f'{{"a": {"9" * 5000}}}',
    f'{{"a": {"[" * 60}{"]" * 60}}}', f'{{"a": [{"[]," * 600_000}[]]}}',
)  # fmt: skip


def sweep_again(sweep: Path) -> tuple[object, ...]:
    return "train", *SWEPT, f"hydra.sweep.dir={sweep}"


@pytest.mark.parametrize("text", share(RECORDS, 6))
@pytest.mark.parametrize("name", ["metrics.jsonl", "result.json", "environment.json", "manifest.json"])
def test_a_record_that_is_none(call, place: Path, name: str, text: str) -> None:
    folder = copied("sweep" if name == "manifest.json" else "run", place)
    lines = "\n\n\n" if name == "metrics.jsonl" else ""  # or what stops at the end is passed over, as after a power cut
    (folder / name).write_bytes((text + lines).encode("latin-1"))
    refuses(call, *(sweep_again if name == "manifest.json" else resume)(folder), names=name, kept=folder)


WRONG = {int: ("word", -1, 1.5, True, None, [], {}), float: ("word", [], {}, True), str: (), bool: ()}
FIELDS = [
    *(("result.json", key, wrong) for key in ("epochs", "steps", "parameters", "seconds", "test.loss", "test.accuracy")
      for wrong in WRONG[float if key in ("seconds", "test.loss", "test.accuracy") else int]),
    *(("result.json", "status", wrong) for wrong in (None, 3, "nope", [], {})),
    *(("result.json", "test", wrong) for wrong in (None, 3, "word", [], {})),
    *(("metrics.jsonl", key, wrong)
      for key in ("epoch", "step", "lr", "train_s", "images_per_s", "train_loss", "train_accuracy")
      for wrong in WRONG[int if key in ("epoch", "step") else float]),
    *(("manifest.json", f"jobs.1.{key}", wrong) for key in ("directory", "overrides", "recipe", "seed", "status", "drawn")
      for wrong in (None, 1.5, [[1]], {"a": 1})),
    *(("manifest.json", f"jobs.1.{key}", wrong) for key in ("cause", "split", "metric", "score", "seconds", "exit_code")
      for wrong in ([], {"a": 1}, True)),
    *(("manifest.json", "jobs", wrong) for wrong in (None, 3, "word", [3], [None], [{}], {"a": 1})),
    *(("manifest.json", f"jobs.1.{key}", "DELETE") for key in ("directory", "overrides", "recipe", "seed")),
    *(("environment.json", f"data.{key}", wrong) for key in ("train_digest", "test_digest") for wrong in (None, 3, [], {})),
]  # fmt: skip


@pytest.mark.parametrize(("name", "key", "value"), share(FIELDS, 6))
def test_a_field_of_a_record(call, place: Path, name: str, key: str, value: Any) -> None:
    folder = copied("sweep" if name == "manifest.json" else "run", place)

    def change(content: dict[str, Any]) -> None:
        put(content, key, value)
        if value == "DELETE":
            del content["jobs"][1][key.rpartition(".")[2]]

    if name == "metrics.jsonl":
        first, *rest = (folder / name).read_text().splitlines(keepends=True)
        content = json.loads(first)
        change(content)
        (folder / name).write_text("".join([json.dumps(content) + "\n", *rest]))
    else:
        edit_json(folder / name, change)
    again = sweep_again if name == "manifest.json" else resume
    refuses(call, *again(folder), names="images" if name == "environment.json" else name, kept=folder)


@pytest.mark.parametrize("seed", share(range(10), 6))
def test_a_journal_of_a_search(call, place: Path, seed: int) -> None:
    pytest.importorskip("optuna")
    search = copied("search", place)
    path, random_ = search / "study.journal", random.Random(seed)
    lines = path.read_text().splitlines(keepends=True)
    at = random_.randrange(len(lines) - 1)
    lines[at] = random_.choice(
        ["word\n", "[]\n", "3\n", '{"op_code": 99}\n', "{}\n", '{"op_code": 0}\n', "\0\n", "[" * 100_000 + "\n"]
    )
    path.write_text("".join(lines))
    refuses(call, "train", *searching(search, 3), names="study.journal", kept=search)
