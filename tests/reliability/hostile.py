"""What the files of row 7 share: a directory with a canary, and runs that name what they should not."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.font_manager  # noqa: F401 - imported here, since it and torchvision's models write caches
import pytest
import torchvision.models  # noqa: F401
from made import (
    copied,
    edit_yaml,
    fifo,
    link,
    original,
    picture,
    put,
)
from small_runs import SMALL
from watch import ends_within, state

ESCAPE = "\x1b]0;stolen\x07\x1b[31m[/x][red]\u202e\x9b2J"
EVIL = "os.system"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Enter a directory with a canary: a file, and modules that would remove it. Only what is in `work` may change."""
    original("run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "work/cache"))
    monkeypatch.setenv("SECRET", "stolen-from-the-environment")
    (tmp_path / "canary").write_text("alive")
    trap = "import pathlib; pathlib.Path('canary').unlink()\nfrom torch.nn import Flatten as Net\n"
    (tmp_path / "canary_module.py").write_text(trap)
    (tmp_path / "canary_package").mkdir()
    (tmp_path / "canary_package/inner.py").write_text(trap)
    (tmp_path / "work").mkdir()
    picture(tmp_path / "picture.png")
    before = state(tmp_path, tmp_path / "work")
    with ends_within(60):
        yield tmp_path / "work"
    assert state(tmp_path, tmp_path / "work") == before
    assert not {"canary_module", "canary_package"} & set(sys.modules)


def naming(payload: str) -> dict[str, Any]:
    """Return a section that names the payload, with the arguments that many payloads would take."""
    script = "import os; os.remove('canary')"
    given = dict.fromkeys(("command", "args", "cmd"), "rm canary") | dict.fromkeys(("path", "file"), "canary")
    return {"_target_": payload, **given, "source": script, "name": "canary_module", "url": "http://127.0.0.1:9/"}


SECTIONS = ("model", "model.network", "task", "optimizer", "schedule", "augment.flip", "data.source", "phases.0.schedule")
COMMANDS: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "evaluate": lambda run: ("evaluate", run),
    "resume": lambda run: ("train", f"resume={run}", "trainer.epochs=3"),
    "predict": lambda run: ("predict", run, "picture.png"),
    "visualize": lambda run: ("visualize", run, "curves", "--to", run.parent / "figures"),
    "export": lambda run: ("export", run, "--to", "safetensors", "--output", run.parent / "weights.safetensors"),
    "convert": lambda run: ("convert", run, "--output", run.parent / "converted"),
    "transfer": lambda run: ("train", *SMALL[:3], "model=transfer", f"model.run={run}", f"hydra.run.dir={run.parent / 'new'}"),
}


def of_kind(section: str, folder: Path, value: Any) -> Path:
    """Return a copied run whose config.yaml holds `value` in the section."""
    run = copied("transfer" if section == "model.network" else "run", folder)

    def change(cfg: dict[str, Any]) -> None:
        if section.startswith("phases"):
            cfg["phases"] = [{"epochs": 2, "parameters": [], "lr_factor": 1.0, "schedule": None}]
        put(cfg, section, value)

    edit_yaml(run / "config.yaml", change)
    return run


INSTEAD: dict[str, Callable[[Path], None]] = {
    "a link": lambda path: link(path, path.parent.parent.parent / "canary"),
    "a link to a folder": lambda path: link(path, path.parent.parent.parent / "canary_package"),
    "a link to nothing": lambda path: link(path, path.parent.parent.parent / "nothing"),
    "a link to a device": lambda path: link(path, "/dev/zero"),
    "a link to itself": lambda path: link(path, path),
    "a pipe": fifo,
}
