"""`python -m scripts.settings`: write docs/SETTINGS.md, every setting with its default, what it takes and what it means."""

import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cnnlab import cli, composing, config
from cnnlab.composing.settings import commented, documented
from cnnlab.config import schema, targets
from cnnlab.errors import ConfigError

PAGE = Path("docs/SETTINGS.md")
HELP = """Write docs/SETTINGS.md from configs/, the schema and the docstrings of what configs/ refers to.

  python -m scripts.settings
  python -m scripts.settings --check       exit code 2 if the page does not match them

Call it in the repository's root.
"""
INTRODUCTION = """# Every setting

Written by `python -m scripts.settings` from `configs/`; `python -m cnnlab.train --help` shows the first table in a terminal.
Change a setting with `KEY=VALUE` on the command line, and put what contains brackets, parentheses or braces in quotes
([SHELLS.md](SHELLS.md)). Technical terms are explained in [TERMS.md](TERMS.md).
"""
GROUPS = ("data", "model", "task", "optimizer", "schedule", "augment")
HEAD = ["| setting | default | takes | meaning |", "|---|---|---|---|"]


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    line = cli.parse(arguments, ("--help", "-h", "--check"))
    if "--help" in line.options or "-h" in line.options:
        cli.print_help(HELP)
        return 0
    if "--check" not in line.options:
        PAGE.write_text(text())
    elif PAGE.read_text() != text():
        raise ConfigError(f"{PAGE}: differs from configs/; python -m scripts.settings rewrites it")
    return 0


def text() -> str:
    """Return the page."""
    lines = [INTRODUCTION, "## Of every run", "", *HEAD, *_root(), "", "## Of a sweep, with `-m`", "", *HEAD]
    lines += [_row("sweep.name", "", "a word", "the sweep is kept in outputs/sweeps/NAME, and the same command resumes it")]
    lines += [_row("sweep.zip", [], "a list", "keys that take their values side by side, not in every combination")]
    for kind, choice in (("launcher", "parallel"), ("sweeper", "optuna")):
        lines += _plain(config.config_dir() / "hydra" / kind / f"{choice}.yaml", f"hydra.{kind}", f" (`hydra/{kind}={choice}`)")
    for group in GROUPS:
        lines += ["", f"## {group}", "", *_choices(group)]
        rows = list(dict.fromkeys(_group(group)))
        lines += ["", *HEAD, *rows] if rows else []
    return "\n".join(lines) + "\n"


def _root() -> Iterator[str]:
    source = (config.config_dir() / "config.yaml").read_text()
    meanings, defaults = commented(source), config.defaults()
    limits = {key: meta for key, _, meta in schema.fields_of(schema.Config())}
    for key, hint in schema.key_types().items():
        if key in defaults:
            yield _row(key, defaults[key], _takes(hint, limits[key]), meanings.get(key, ""))


def _takes(hint: Any, limits: Mapping[str, Any]) -> str:
    """Return the type and the range of a key's values."""
    if limits.get("choices"):
        return "one of " + ", ".join(limits["choices"])
    least, above = limits.get("minimum"), limits.get("above")
    more = f", {least} or more" if least is not None else f", more than {above}" if above is not None else ""
    return targets.type_name(hint) + more


def _plain(path: Path, prefix: str, where: str) -> Iterator[str]:
    """Yield the settings of one of Hydra's plugins."""
    meanings = commented(path.read_text())
    for key, value in targets.keys_of(yaml.safe_load(path.read_text())).items():
        kind = "an integer or null" if value is None else targets.type_name(type(value))
        yield _row(f"{prefix}.{key}", value, kind, meanings[key] + where)


def _choices(group: str) -> Iterator[str]:
    for choice in composing.groups()[group]:
        header = re.match(r"(?:# .*\n)+", (config.config_dir() / group / f"{choice}.yaml").read_text())
        words = " ".join((header[0] if header else "").replace("# ", "").split())
        yield f"- `{group}={choice}`: " + re.sub(r"(\S+_target_=[\w.]+)", r"`\1`", words)


def _group(group: str) -> Iterator[str]:
    """Yield the settings of a group's choices; equal meanings and defaults in several choices give equal rows."""
    for choice in composing.groups()[group]:
        source = (config.config_dir() / group / f"{choice}.yaml").read_text()
        meanings = commented(source)
        for where, kind, section in schema.sections({group: yaml.safe_load(source)}):
            if section.get("_target_", "???") == "???":
                continue
            target, parameters = targets.locate(section, where), targets.parameters_of(section, where)
            hints, inside = targets.hints_of(target), where.removeprefix(group).lstrip(".")
            elsewhere = ("shape", *schema.SOURCE_SETTINGS) if where == "data.source" else ()  # settings of `data`
            names = [name for name in parameters if name not in (*kind.provided, *elsewhere)]
            told = documented(target, list(parameters))
            own = target.__module__.startswith("cnnlab.")
            for name in names if own else targets.keys_of(section):
                meaning = meanings.get(f"{inside}.{name}".lstrip("."), told.get(name, ""))
                if group == "model":
                    default, meaning = parameters[name].default, f"{meaning} ({target.__name__})"
                else:
                    default = section.get(name, parameters[name].default)
                chosen = f" (`{group}={choice}`)" if group in ("optimizer", "schedule", "data") else ""
                yield _row(f"{where}.{name}", default, targets.type_name(hints.get(name, Any)), meaning + chosen)


def _row(key: str, default: Any, takes: str, meaning: str) -> str:
    if default is inspect.Parameter.empty:
        default = "required"
    elif not isinstance(default, str):
        default = yaml.safe_dump(list(default) if isinstance(default, tuple) else default, default_flow_style=True)
        default = default.removesuffix("...\n").strip()
    cells = [f"`{key}`", f"`{default}`" if default not in ("", "required") else default, takes, meaning]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    sys.exit(cli.run("settings", sys.argv[1:], "scripts"))
