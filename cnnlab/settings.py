"""What the help says of a choice: its file, what it calls, and each setting of that with its value and its meaning."""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cnnlab import composing, targets
from cnnlab.config import config_dir, read_plain
from cnnlab.schema import Config, sections


def choices_help(overrides: Sequence[str]) -> str:
    """The settings of each choice `group=choice` among the overrides; empty where there is none. What they call is imported.

    Raises:
        ConfigError: no such choice.
    """
    chosen = [(key, name) for key, _, name in (text.partition("=") for text in overrides) if key in composing.groups()]
    if chosen:
        composing.compose([f"{group}={name}" for group, name in chosen])  # says what cannot be chosen
    return "\n".join(choice_help(group, name) for group, name in chosen)


def choice_help(group: str, name: str) -> str:
    """The settings of one choice: a line each with its value, and below it what it means."""
    path = config_dir() / group / f"{name}.yaml"
    if not path.is_file():  # null
        return ""
    text = path.read_text()
    comment = re.match(r"(?:#.*\n)*", text)
    about = " ".join(line.lstrip("# ") for line in comment[0].splitlines() if "@package" not in line) if comment else ""
    title = f"{group}={name}: {about}\n\n"
    kinds = {where: kind for where, kind, _ in sections({group: read_plain(path)}, Config)}
    if group not in kinds:  # several sections, or keys that --help lists
        return title + text.removeprefix(comment[0] if comment else "").lstrip()
    section = read_plain(path)
    rows = [
        f"  {key}={value}\n" + (f"      {meaning}\n" if meaning else "")
        for key, value, meaning in settings(section, group, kinds[group].provided)
    ]
    calls = f"  calls {section['_target_']}: {(inspect.getdoc(targets.locate(section, group)) or '').partition(chr(10))[0]}\n"
    return title + calls + "\n" + ("".join(rows) or "  It has no settings.\n")


def settings(section: Mapping[str, Any], where: str, provided: Sequence[str]) -> list[tuple[str, str, str]]:
    """The key, the value and the meaning of each setting that a section's target takes."""
    meanings = documented(inspect.getdoc(targets.locate(section, where)) or "")
    rows = []
    for name, parameter in targets.parameters_of(section, where).items():
        if name not in provided and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            default = None if parameter.default is parameter.empty else parameter.default
            rows.append((f"{where}.{name}", as_yaml(section.get(name, default)), meanings.get(name, "")))
    return rows


def documented(docstring: str) -> dict[str, str]:
    """What the Args of a docstring say of each parameter, to the end of its first sentence."""
    args = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)*)", docstring, re.MULTILINE)
    text = re.sub(r"\n {5,}", " ", args[1]) if args else ""  # joins the lines that continue another
    found = re.findall(r"^ +(\w+)(?: \([^)]*\))?: (.*)", text, re.MULTILINE)
    return {name: meaning.partition(". ")[0].rstrip(".") for name, meaning in found}


def as_yaml(value: Any) -> str:
    """A value as one writes it on the command line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {as_yaml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(as_yaml, value)) + "]"
    return {None: "null", True: "true", False: "false"}.get(value, str(value)) if not isinstance(value, float) else f"{value:g}"
