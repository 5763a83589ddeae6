"""`python -m scripts.tutorial`: run the commands of docs/TUTORIAL.md and the cells of docs/first-steps.ipynb, and compare."""

import ast
import base64
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cnnlab import cli
from cnnlab.errors import ConfigError

HELP = """Run docs/TUTORIAL.md and docs/first-steps.ipynb in an empty directory, and compare what they print.

  python -m scripts.tutorial                exit code 2 if something else is printed
  python -m scripts.tutorial --notebook     run the notebook and write what its cells print into it

Call it in the repository's root. Accuracies and losses may differ by 0.05, since they depend on the machine; times, speeds and
the content of pictures are not compared; everything else must be the same.
"""
PAGE, NOTEBOOK = Path("docs/TUTORIAL.md"), Path("docs/first-steps.ipynb")
NUMBER = re.compile(r"\d[\d,:]*(?:\.\d+)?")
TIMES = re.compile(r"^ ?(?:s\b|ms\b|images/s| of training|MiB|KiB|bytes)")  # follow a number that is not compared
TOLERANCE = 0.05  # for numbers with four decimals

Session = list[tuple[str, list[str]]]  # commands, each with the lines that it should print


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    line = cli.parse(arguments, ("--help", "-h", "--notebook"))
    if "--help" in line.options or "-h" in line.options:
        print(HELP, end="")
        return 0
    if "--notebook" in line.options:
        NOTEBOOK.write_text(executed(NOTEBOOK.read_text()))
        return 0
    wrong = [*check_page(PAGE.read_text()), *check_notebook(NOTEBOOK.read_text())]
    if wrong:
        raise ConfigError(f"{len(wrong)} lines are no longer printed, the first: {wrong[0]}")
    return 0


def sessions(page: str) -> Session:
    """Return the commands in a page's console blocks and what is printed after each, joining lines that end in a backslash."""
    found: Session = []
    for block in re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for text in block.replace("\\\n", "").splitlines():
            if text.startswith("$ "):
                found.append((text[2:], []))
            else:
                found[-1][1].append(text)
    return found


def check_page(page: str) -> list[str]:
    """Run a page's commands one after another in a new directory, and return the lines that are not printed."""
    wrong = []
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "PYTHONPATH": str(Path.cwd()), "COLUMNS": "200"}
    with tempfile.TemporaryDirectory() as folder:
        for command, expected in sessions(page):
            done = subprocess.run(command, shell=True, cwd=folder, env=env, capture_output=True, text=True, check=False)
            printed = (done.stdout + done.stderr).splitlines()
            if done.returncode:
                wrong.append(f"{command}: exit code {done.returncode}, {done.stderr.strip()[-200:]}")
            wrong += [f"{command}: {text}" for text in missing(expected, printed)]
    return wrong


def missing(expected: Sequence[str], printed: Sequence[str]) -> Iterator[str]:
    """Yield the lines of `expected`, except "..." and empty ones, that are not like one of `printed`, in this order."""
    rest = list(printed)
    for text in expected:
        if text.strip() in ("", "..."):
            continue
        place = next((number for number, other in enumerate(rest) if alike(text, other)), None)
        if place is None:
            yield text
        else:
            del rest[: place + 1]


def alike(expected: str, printed: str) -> bool:
    """Whether two lines are the same, except for times, and for scores within TOLERANCE."""
    words, others = (" ".join(NUMBER.sub("#", text).split()) for text in (expected, printed))
    pairs = zip(NUMBER.finditer(expected), NUMBER.finditer(printed), strict=False)
    return words == others and all(
        TIMES.match(expected[one.end() :]) or _close(one.group(), other.group()) for one, other in pairs
    )


def _close(expected: str, printed: str) -> bool:
    decimals = len(expected.partition(".")[2])
    if decimals == 4:
        return abs(float(expected) - float(printed)) <= TOLERANCE
    return decimals == 1 or expected == printed  # seconds in a table


def cells(notebook: str) -> list[dict[str, Any]]:
    """Return a notebook's code cells."""
    return [cell for cell in json.loads(notebook)["cells"] if cell["cell_type"] == "code"]


def run_cell(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a cell and return its outputs in notebook format: what it prints with its last value, or a picture."""
    tree, printed = ast.parse(source), io.StringIO()
    last = None
    if isinstance(end := tree.body[-1], ast.Expr):
        tree.body.pop()
        last = ast.Expression(end.value)
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(tree, "cell", "exec"), names)
        value = None if last is None else eval(compile(last, "cell", "eval"), names)
    show = getattr(value, "_repr_png_", None)
    png = show() if show else None
    text = printed.getvalue() + ("" if value is None or png else f"{value!r}\n")
    found: list[dict[str, Any]] = []
    if text:
        found.append({"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)})
    if png:
        data = {"image/png": base64.b64encode(png).decode()}
        found.append({"output_type": "display_data", "data": data, "metadata": {}})
    return found


def outputs(notebook: str) -> list[list[dict[str, Any]]]:
    """Return the outputs of each code cell, run one after another in a new directory."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        return [run_cell("".join(cell["source"]), names) for cell in cells(notebook)]


def check_notebook(notebook: str) -> list[str]:
    """Return the lines that a notebook's cells no longer print."""
    wrong = []
    for cell, found in zip(cells(notebook), outputs(notebook), strict=True):
        wrong += [f"{NOTEBOOK}: {text}" for text in missing(_lines(cell["outputs"]), _lines(found))]
    return wrong


def _lines(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of outputs, one for a picture."""
    return [text for output in found for text in "".join(output.get("text", "a picture")).splitlines()]


def executed(notebook: str) -> str:
    """Return the notebook with what its cells print now."""
    content = json.loads(notebook)
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    for number, (cell, found) in enumerate(zip(code, outputs(notebook), strict=True), 1):
        cell["execution_count"], cell["outputs"] = number, found
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(cli.run("tutorial", sys.argv[1:], "scripts"))
