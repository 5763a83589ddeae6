"""The tutorial's checker notices what is not printed any more; whether the tutorial holds is for CI, which runs it."""

import json

import pytest

from scripts import tutorial

PAGE = """
```console
$ echo 'epoch 3/3  accuracy 0.9745  0.9 s'; echo 'in 3 files'
epoch 3/3  accuracy {accuracy}  12.5 s
...
in {files} files
$ echo two \\
    words
two words
```
"""


@pytest.mark.parametrize(
    ("accuracy", "files", "wrong"), [("0.9745", 3, 0), ("0.9800", 3, 0), ("0.9000", 3, 1), ("0.9745", 4, 1), ("1.1000", 4, 2)]
)
def test_scores_may_differ_a_little_and_nothing_else(accuracy: str, files: int, wrong: int) -> None:
    assert len(tutorial.check_page(PAGE.format(accuracy=accuracy, files=files))) == wrong


def test_a_command_that_fails_is_told() -> None:
    assert len(tutorial.check_page("```console\n$ exit 3\n```\n")) == 1


def test_a_notebook_is_run_cell_by_cell_with_what_the_last_expression_says() -> None:
    code = [{"cell_type": "code", "source": [line], "outputs": []} for line in ("x = 1\nprint('a')\nx + 1", "y = x", "x")]
    notebook = tutorial.executed(json.dumps({"cells": [{"cell_type": "markdown", "source": ["x"]}, *code]}))
    assert [[text for output in cell["outputs"] for text in output["text"]] for cell in tutorial.cells(notebook)] == [
        ["a\n", "2\n"], [], ["1\n"],
    ]  # fmt: skip
    assert tutorial.check_notebook(notebook) == []
    drawn = "from PIL import Image\nImage.new('L', (2, 2))"
    code.append({"cell_type": "code", "source": [drawn], "outputs": []})
    with_picture = tutorial.executed(json.dumps({"cells": code}))
    assert list(tutorial.cells(with_picture)[-1]["outputs"][0]["data"]) == ["image/png"]
    assert tutorial.check_notebook(with_picture) == []
    assert len(tutorial.check_notebook(notebook.replace('"2\\n"', '"3\\n"'))) == 1
