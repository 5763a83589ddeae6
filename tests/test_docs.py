"""Every command in README, docs and --help can be copied to bash and zsh, names settings that exist; links lead somewhere.

A block of commands below `<!-- quick -->` is run, in this process and with a few steps in the place of its epochs, beside the
files that other blocks name in their first line.
"""

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from cnnlab import cli, composing, config
from cnnlab.composing.overrides import prepare
from cnnlab.config import trust
from cnnlab.sweep.directory import settings

ROOT = config.config_dir().parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HELPS = [("cnnlab", name) for name in cli.COMMANDS] + [
    ("scripts", name) for name in ("reproduce", "lessons", "settings", "transfer")
]
PROGRAMS = ("python", "cnnlab", "tensorboard", "pip", "make", "source", "bash")
COMMAND = re.compile(rf"(?:\$ )?((?:{'|'.join(PROGRAMS)}) [^\n]*)")
ASSIGNMENT = re.compile(r"'?[~+]*[a-z_][a-z_.]*=\S.*")  # a setting, as in `augment=none`
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|\\.")
SPECIAL = re.compile(r"[][(){}*?#!^]|^~|^=")  # to bash or to zsh, also to the zsh of a terminal, which knows no comments


def of_page(text: str) -> list[str]:
    """The commands in a Markdown page's blocks without a language and in its `code`, and the `key=value` in the latter."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = [line for language, block in blocks if not language for line in joined(block).splitlines()]
    spans = re.findall(
        r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    )
    written = [" ".join(span.split()).replace(r"\|", "|") for span in spans]
    found = [match[1] for match in map(COMMAND.fullmatch, [*lines, *written]) if match]
    return found + [f"python -m cnnlab.train {span}" for span in written if ASSIGNMENT.fullmatch(span)]


def of_help(text: str) -> list[str]:
    """The commands in a help text: each ends where two spaces begin its explanation."""
    rows = [re.split(r"\s{2,}", row.strip()) for row in joined(text).splitlines()]
    found = [row[0] for row in rows if COMMAND.fullmatch(row[0])]
    return found + [span for span in re.findall("`([^`\n]+)`", text) if COMMAND.fullmatch(span)]


def joined(text: str) -> str:
    return re.sub(r" *\\\n *", " ", text)


@pytest.fixture(
    params=[*(str(page.relative_to(ROOT)) for page in PAGES), *(f"{package}.{command} --help" for package, command in HELPS)]
)
def commands(request: pytest.FixtureRequest, call) -> list[str]:
    name = request.param
    if name.endswith("--help"):
        package, command = name.removesuffix(" --help").split(".")
        return of_help(call(command, "--help", package=package)[1])
    return of_page((ROOT / name).read_text())


def test_both_shells_read_every_command_alike(commands: list[str], tmp_path: Path) -> None:
    for command in commands:
        assert not any(SPECIAL.search(word) for word in QUOTED.sub("", command).split()), f"quote it: {command}"
    expected = [shlex.split(os.path.expandvars(re.sub(r" > \S+$", "", command))) for command in commands]
    stubs = "".join(f"{program}() {{ printf '%s\\0' {program} \"$@\" '' >&3; }}\n" for program in PROGRAMS)
    script = stubs + "\n".join(commands) + "\n"
    for shell in (["bash", "--norc"], ["zsh", "-f"]):
        if shutil.which(shell[0]):
            words = tmp_path / shell[0]
            with words.open("wb") as sink:
                done = subprocess.run(["bash", "-c", f'exec {shlex.join(shell)} -c "$0" 3>&{sink.fileno()}', script],
                                      pass_fds=[sink.fileno()], cwd=tmp_path, capture_output=True, text=True)  # fmt: skip
            assert (done.returncode, done.stderr) == (0, "")
            assert words.read_bytes().decode() == "".join("\0".join([*line, "", ""]) for line in expected)


def test_the_settings_in_every_command_exist(commands: list[str]) -> None:
    for command in commands:
        words = re.sub("^cnnlab ", "python -m cnnlab.", command).split(" ", 3)
        if words[2:3] in (["cnnlab.train"], ["cnnlab.summary"], ["cnnlab.evaluate"]) and "--config-dir" not in command:
            given = [word for word in shlex.split(" ".join(words[3:])) if "=" in word and not word.startswith(("-", "resume="))]
            own, _ = settings(trust.split(given)[1], sweeping=True)
            placeholders = [word for word in own if word.partition("=")[2].isupper()]  # experiment=ID
            prepare([word for word in own if word not in placeholders], composing.groups(), sweep=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if not path.startswith("http"):
            linked = page.parent / path if path else page
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked.read_text()), target


def anchors(text: str) -> set[str]:
    """Of a Markdown page's headings, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in re.findall(r"^#+ (.*)$", text, re.M)}


@pytest.mark.parametrize("page", [page for page in PAGES if "<!-- quick -->" in page.read_text()], ids=lambda page: page.name)
def test_quick_commands_run(page: Path, call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.read_text()
    for name, content in re.findall(r"^```\w+\n# (\S+\.\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for block in re.findall(r"<!-- quick -->\s*```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        for line in joined(block).splitlines():
            python, _, module, *words = shlex.split(line)
            package, _, command = module.partition(".")
            assert (python, package) == ("python", "cnnlab")
            code, _, err = call(command, *(re.sub(r"^trainer\.epochs=\d+$", "trainer.steps=5", word) for word in words))
            assert code == 0, err


def test_every_dependency_has_an_upper_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    assert [one for one in required if "<" not in one and not one.startswith("cnnlab[")] == []
