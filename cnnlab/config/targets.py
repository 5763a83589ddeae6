"""`_target_`: find the callable that a config names, check its keys against the signature, call it.

A section such as `{_target_: torch.optim.Adam, lr: 0.001}` is a call. The program provides some of the arguments (the
parameters, the image size) if the signature has them, so that any callable fits. In the schema, such a section is a field of
the type `Annotated[dict[str, Any], Kind(...)]`.
"""

import importlib.util
import inspect
import os
import sys
import traceback
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from cnnlab.errors import CnnlabError, ConfigError, as_known, suggest

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Kind:
    """The kind of a section with a `_target_`.

    name: the key under which `cnnlab.config.trust` lists what a run's files may name there. provided: the arguments that cnnlab
    passes to the target if it takes them, which are therefore not keys of the section.
    """

    name: str
    provided: tuple[str, ...]


def locate(section: Mapping[str, Any], where: str) -> Callable[..., Any]:
    """The callable that `section["_target_"]` names; `where` is the section's name, for the error.

    A package that is not installed, which a person must have named or trusted, is also looked for in the current directory,
    which then stays on sys.path. Otherwise nothing is imported from there, not even optional modules that torch looks for.

    Raises:
        ConfigError: no such module or name, or it cannot be called.
    """
    path = section.get("_target_")
    if not isinstance(path, str) or "." not in path:
        raise ConfigError(f"{where}._target_={path}: expected the dotted path of a class or function, package.module.Name")
    module_path, _, name = path.rpartition(".")
    package = path.partition(".")[0]
    try:
        if package not in sys.modules and importlib.util.find_spec(package) is None and os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        module = importlib.import_module(module_path)
    except ModuleNotFoundError as error:
        if (known := as_known(error)) is not None:
            raise known from error
        raise ConfigError(
            f"{where}._target_={path}: no module {error.name!r}; looked in the installed packages and in {os.getcwd()}"
        ) from error
    except Exception as error:
        raise ConfigError(f"{where}._target_={path}: importing it failed: {type(error).__name__}: {error}") from error
    try:
        target = getattr(module, name)
    except AttributeError as error:
        raise ConfigError(f"{where}._target_={path}: {module_path} has no {name!r}.{suggest(name, dir(module))}") from error
    if not callable(target):
        raise ConfigError(f"{where}._target_={path}: expected a class or a function, got {type(target).__name__}")
    return typing.cast(Callable[..., Any], target)


def keys_of(section: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in a section: everything but `_target_`."""
    return {key: value for key, value in section.items() if key != "_target_"}


def parameters_of(section: Mapping[str, Any], where: str) -> Mapping[str, inspect.Parameter]:
    """The parameters that a section's target takes; none for the few C functions without a signature."""
    try:
        return inspect.signature(locate(section, where)).parameters
    except (TypeError, ValueError):
        return {}


def require(built: object, kind: type, section: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError unless the target returned a `kind`."""
    if not isinstance(built, kind):
        expected = f"{kind.__module__.removesuffix('.module').removesuffix('.optimizer')}.{kind.__name__}"
        raise ConfigError(f"{where}._target_={section['_target_']}: expected {expected}, got {type(built).__name__}")


def check(section: Mapping[str, Any], where: str, provided: Sequence[str] = ()) -> None:
    """Check a section's keys and the types of its values against the signature of its target.

    Args:
        section: the config section, with its `_target_`.
        where: the section's name, for the error.
        provided: names of the arguments that the program passes, which are not keys.

    Raises:
        ConfigError: an unknown or missing key, or a value of the wrong type.
    """
    target, given, parameters = locate(section, where), keys_of(section), parameters_of(section, where)
    if not parameters and given and not inspect.isfunction(target) and not inspect.isclass(target):
        return  # a callable without a signature
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = {k: p for k, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    legal = [name for name in named if name not in provided and name != "self"]
    for key, value in given.items():
        if key not in legal:
            if open_ended and key not in provided:
                continue
            listing = f"Keys: {', '.join(legal)}." if legal else "It has no keys."
            near = suggest(key, legal).replace("mean ", f"mean {where}.").replace(" or ", f" or {where}.")
            raise ConfigError(f"{where}.{key}: no such key of {section['_target_']}.{near} {listing}")
        hint = hints_of(target).get(key, Any)
        if not fits(value, hint):
            got = "" if typing.get_origin(hint) is typing.Literal else f", got {type(value).__name__}"
            raise ConfigError(f"{where}.{key}={value}: expected {type_name(hint)}{got}")
    for key in legal:
        if named[key].default is inspect.Parameter.empty and key not in given:
            raise ConfigError(f"{where}.{key}: {section['_target_']} needs a value for it; add {where}.{key}=VALUE")


def bind(section: Mapping[str, Any], where: str, later: Sequence[str] = (), **provided: Any) -> "partial[Any]":
    """Bind a section's target to its keys and to those of `provided` that it takes, without calling it.

    later: names of the arguments that the call will pass.

    Raises:
        ConfigError: see `check`.
    """
    check(section, where, (*later, *provided))
    takes = parameters_of(section, where)
    return partial(locate(section, where), **{k: v for k, v in provided.items() if k in takes}, **keys_of(section))


def instantiate(section: Mapping[str, Any], where: str, **provided: Any) -> Any:
    """Call a section's target with its keys and with those of `provided` that it takes.

    Raises:
        ConfigError: the target refused its arguments (the error includes its message).
    """
    bound = bind(section, where, **provided)
    try:
        return bound()
    except CnnlabError:
        raise
    except (TypeError, ValueError) as error:
        inside = traceback.extract_tb(error.__traceback__)[1:]
        if isinstance(error, TypeError) and inside and "site-packages" not in inside[-1].filename:
            raise ConfigError(f"{where}: {section['_target_']} failed: {failure(error)}") from error
        raise ConfigError(f"{where}: {section['_target_']} refused its arguments: {error}") from error
    except Exception as error:
        if bound.func.__module__.startswith("cnnlab."):  # a bug in cnnlab needs its traceback
            raise
        raise ConfigError(f"{where}: {section['_target_']} failed: {failure(error)}") from error


def failure(error: Exception) -> str:
    """Describe an error in the user's own code: "RuntimeError: ... (mine.py, line 12)", with the last line in that code, not
    the one in a package that it called."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if "site-packages" not in one.filename and not one.filename.startswith(str(PACKAGE))]
    frame = (own or frames)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}, line {frame.lineno})"


def hints_of(target: Callable[..., Any]) -> dict[str, Any]:
    """The types of a target's arguments, by name."""
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except Exception:  # the user's annotations may not resolve; then the types are unknown
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value can be passed for `hint`; a hint that YAML cannot express accepts any value unless it is torch's."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in arguments)
    if origin is typing.Literal:
        return value in arguments
    if inspect.isclass(hint) and issubclass(hint, StrEnum):
        return value in [member.value for member in hint]
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if hint is type(None):
        return value is None
    kind = origin or hint
    if inspect.isclass(kind) and issubclass(kind, Sequence):
        if isinstance(value, str) or not isinstance(value, Sequence):
            return False
        if kind is tuple and arguments and arguments[-1] is not Ellipsis:
            return len(value) == len(arguments) and all(map(fits, value, arguments))
        return not arguments or all(fits(item, arguments[0]) for item in value)
    if inspect.isclass(kind) and issubclass(kind, Mapping):
        return isinstance(value, Mapping)
    # A config cannot hold one of torch's classes, as in a union with plain types (float | Tensor).
    return not (inspect.isclass(kind) and kind.__module__.partition(".")[0] == "torch")


def type_name(hint: Any) -> str:
    """Describe a type in plain words: `int | None` is "an integer or null"."""
    names = {float: "a number", int: "an integer", bool: "true or false", str: "a word", type(None): "null"}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        plain = [option for option in arguments if str(getattr(option, "__module__", "")).partition(".")[0] != "torch"]
        return " or ".join(dict.fromkeys(type_name(option) for option in plain))
    if origin is typing.Literal or (inspect.isclass(hint) and issubclass(hint, StrEnum)):
        return "one of " + ", ".join(map(str, arguments or hint))
    if inspect.isclass(origin or hint) and issubclass(origin or hint, Sequence) and hint is not str:
        return f"a list of {len(arguments)} values" if origin is tuple and arguments[-1] is not Ellipsis else "a list"
    if inspect.isclass(origin or hint) and issubclass(origin or hint, Mapping):
        return "a mapping"
    return str(names.get(hint, getattr(hint, "__name__", hint)))
