"""The help for a choice: its description, what it calls, and each setting with its value and meaning."""

import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from cnnlab import composing
from cnnlab.config import config_dir, targets
from cnnlab.config.schema import sections
from cnnlab.reading import parse_yaml


def choices_help(overrides: Sequence[str]) -> str:
    """The help for each choice `group=choice` among the overrides; empty if there is none. Imports what they call.

    Raises:
        ConfigError: no such choice.
    """
    chosen = [(key, name) for key, _, name in (text.partition("=") for text in overrides) if key in composing.groups()]
    if chosen:
        composing.compose([f"{group}={name}" for group, name in chosen])  # raises for an illegal choice
    return "\n".join(choice_help(group, name) for group, name in chosen)


def choice_help(group: str, name: str) -> str:
    """The help for one choice: for each setting, a line with its value and below it the meaning."""
    path = config_dir() / group / f"{name}.yaml"
    if not path.is_file():  # null
        return ""
    text = path.read_text()
    comment = re.match(r"(?:#.*\n)*", text)
    about = " ".join(line.lstrip("# ") for line in comment[0].splitlines() if "@package" not in line) if comment else ""
    title = f"{group}={name}: {about}\n\n"
    section = parse_yaml(path.read_bytes(), path)
    kinds = {where: kind for where, kind, _ in sections({group: section})}
    if group not in kinds:  # several sections, or keys that --help lists
        return title + textwrap.indent(text.removeprefix(comment[0] if comment else "").lstrip(), "  ")
    if section["_target_"] == "???":  # the choice for the user's own code
        return title + f"  {group}._target_=package.module.NAME\n"
    rows = [
        f"  {key}={value}\n" + (f"      {meaning}\n" if meaning else "")
        for key, value, meaning in settings(section, group, kinds[group].provided, commented(text))
    ]
    calls = f"  calls {section['_target_']}: {(inspect.getdoc(targets.locate(section, group)) or '').partition(chr(10))[0]}\n"
    return title + calls + "\n" + ("".join(rows) or "  It has no settings.\n")


def settings(section: Mapping[str, Any], where: str, provided: Sequence[str], comments: Mapping[str, str]) -> list[list[str]]:
    """The key, value and meaning of each setting that a section's target takes; comments: those in the section's file."""
    target, rows = targets.locate(section, where), []
    parameters = targets.parameters_of(section, where)
    told = documented(target, list(parameters))
    for name, parameter in parameters.items():
        if name not in provided and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            default = None if parameter.default is parameter.empty else parameter.default
            meaning = comments.get(name, told.get(name, ""))
            rows.append([f"{where}.{name}", as_yaml(section.get(name, default)), meaning])
    return rows


def commented(source: str) -> dict[str, str]:
    """The comment after each key of a YAML file, by dotted key."""
    found, above = {}, list[tuple[int, str]]()
    for indent, key, comment in re.findall(r"^( *)(\w+):(?:.*?\s# *(.*))?", source, re.MULTILINE):
        above = [(depth, name) for depth, name in above if depth < len(indent)] + [(len(indent), key)]
        found[".".join(name for _, name in above)] = comment
    return {key: comment for key, comment in found.items() if comment}


def documented(target: Any, names: Sequence[str]) -> dict[str, str]:
    """The first sentence of a docstring about each of a target's arguments; "a: ...; b: ..." may share a line."""
    text = re.split(r"\n\s*(?:Input shape|Returns|Raises|Source)\b", inspect.getdoc(target) or "")[0]
    _, *parts = re.split(rf"(?:[;.:] |\n\s*)({'|'.join(names) or '$'})(?: \([^)]*\))?: ", text)
    meanings = (" ".join(part.split()).partition(". ")[0].rstrip(".") for part in parts[1::2])
    return dict(zip(parts[::2], meanings, strict=True))


def as_yaml(value: Any) -> str:
    """A value as written on the command line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {as_yaml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(as_yaml, value)) + "]"
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
