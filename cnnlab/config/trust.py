"""The callables that the files of a run may name, so that opening somebody else's run runs none of their code.

A name in config.yaml must refer, by identity and not by spelling, to a member of a closed list: cnnlab's own networks, tasks,
schedules, augmentations and data sources, the modules of torch.nn, the optimizers of torch.optim, the classifiers of
torchvision.models. Anything else is refused and never imported, unless a person trusts its package by name. Names on a command
line are not checked here. Loads torch only when there is a name to look up.
"""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from cnnlab.config.schema import Config, sections
from cnnlab.config.targets import Kind
from cnnlab.errors import ConfigError

OWN: dict[str, dict[str, tuple[str, ...]]] = {  # by the kind of a section (`cnnlab.config.schema`)
    "model": {"cnnlab.models": ("ConvNet", "MLP", "Pretrained", "transferred")},
    "task": {"cnnlab.training.task": ("Multiclass", "Binary", "Regression")},
    "optimizer": {},
    "schedule": {"cnnlab.training.schedule": ("constant", "step_decay", "cosine", "one_cycle")},
    "augment": {
        "cnnlab.data.augment": ("random_flip", "random_crop", "random_rotation", "random_zoom", "random_cutout",
                                "keras_rotation", "keras_zoom"),
    },
    "source": {"cnnlab.data.idx": ("load",), "cnnlab.data.cifar": ("load",), "cnnlab.data.digits": ("load",),
               "cnnlab.data.folder": ("load",), "cnnlab.data.sequences": ("rows", "moving")},
}  # fmt: skip
ONLINE = ("weights", "pretrained")  # arguments with which torchvision's classifiers download
FOREIGN: dict[str, tuple[str, ...]] = {"model": ("torch.nn", "torchvision.models"), "optimizer": ("torch.optim",)}


def check(cfg: Config, trusted: Sequence[str] = ()) -> None:
    """Refuse a configuration from a file if a section names anything that is not listed for its kind.

    trusted: top-level packages from which any name is accepted.

    Raises:
        ConfigError: a section without a name, or with one that is not listed.
    """
    for where, kind, section in sections(cfg):
        check_section(where, kind, section, trusted)


def check_section(where: str, kind: Kind, section: Any, trusted: Sequence[str] = ()) -> None:
    """Do what `check` does for one section."""
    path = section.get("_target_") if isinstance(section, Mapping) else section
    if not isinstance(path, str) or "." not in path:
        raise ConfigError(f"{where}._target_={path}: expected the dotted path of a class or function, package.module.Name")
    package = path.partition(".")[0]
    if package not in trusted and not _is_listed(path, kind.name):
        raise ConfigError(
            f"{where}._target_={path}: not one of the names in {', '.join(_modules(kind.name))}, "
            "and a run's files may name no other code; "
            f"if you trust the package {package}, add trust={package}"
        )
    if package == "torchvision" and package not in trusted and isinstance(section, Mapping) and set(ONLINE) & section.keys():
        raise ConfigError(f"{where}: {path} would download weights ({', '.join(ONLINE)}), but a run has its own; remove them")


def packages(given: str | Sequence[str]) -> list[str]:
    """The packages that a person trusts, from a list of names or from text such as `mine` or `[mine,yours]`.

    Raises:
        ConfigError: not the name of a top-level package.
    """
    if isinstance(given, str):
        given = given.strip("[] ").split(",")
    names = given if isinstance(given, Sequence) else [given]
    for name in names:
        if not isinstance(name, str) or not name.strip().isidentifier():
            raise ConfigError(f"trust={name}: expected the name of a package, such as mine for mine.Net")
    return [name.strip() for name in names]


def split(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line's overrides into the packages that `trust=` names and the rest."""
    given = [override.removeprefix("trust=") for override in overrides if override.startswith("trust=")]
    rest = [override for override in overrides if not override.startswith("trust=")]
    return [name for text in given for name in packages(text)], rest


def named(cfg: Config) -> list[str]:
    """The top-level packages of the names in a configuration; nothing is imported."""
    return sorted({path.partition(".")[0] for _, path in _names(cfg)})


def argument(cfg: Config | Mapping[str, Any]) -> str:
    """The argument to append to a printed command about a run of this configuration: " trust=mine", or nothing."""
    outside = {
        path.partition(".")[0]
        for kind, path in _names(cfg)
        if not any(path.startswith(f"{module}.") for module in _modules(kind.name))
    }
    foreign = sorted(filter(str.isidentifier, outside))
    if not foreign:
        return ""
    return " " + shlex.quote("trust=" + (f"[{','.join(foreign)}]" if len(foreign) > 1 else foreign[0]))


def _names(cfg: Config | Mapping[str, Any]) -> Iterator[tuple[Kind, str]]:
    for _, kind, section in sections(cfg):
        path = section.get("_target_") if isinstance(section, Mapping) else None
        if isinstance(path, str):
            yield kind, path


def _modules(kind: str) -> tuple[str, ...]:
    """The modules that contain the names allowed in a kind of section."""
    return (*OWN[kind], *FOREIGN.get(kind, ()))


def _is_listed(path: str, kind: str) -> bool:
    """Whether a name refers to something in the list. Only listed modules are imported, never one that the name gives."""
    listed = [getattr(import_module(module), name) for module, names in OWN[kind].items() for name in names]
    package = next((name for name in FOREIGN.get(kind, ()) if path.startswith(f"{name}.")), None)
    if package == "torch.nn":
        listed += _classes_in(package, "torch.nn.Module")
    elif package == "torch.optim":
        listed += _classes_in(package, "torch.optim.Optimizer")
    elif package == "torchvision.models":
        models = import_module(package)
        listed += [models.get_model_builder(name) for name in models.list_models(module=models)]
    elif not any(path.startswith(f"{module}.") for module in OWN[kind]):
        return False
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), "__dict__", {}).get(name)
    return any(found is one for one in listed)


def _classes_in(package: str, base: str) -> list[type]:
    module, _, name = base.rpartition(".")
    kind = getattr(import_module(module), name)
    return [one for one in vars(import_module(package)).values() if isinstance(one, type) and issubclass(one, kind)]
