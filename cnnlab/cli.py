"""The console script, and what all commands share: parsing the command line, one-line errors and exit codes."""

import importlib
import io
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from cnnlab import __version__
from cnnlab.errors import CnnlabError, ConfigError, as_known, folded, note, suggest
from cnnlab.status import Status, StoppedError
from cnnlab.training.interrupt import ctrl_c_after_imports, signals_exit

COMMANDS = {
    "train": "train a network, or continue a run",
    "evaluate": "score a run on the test images, class by class",
    "predict": "say what is in pictures: their classes, with probabilities",
    "visualize": "look inside a run: filters, maps, Grad-CAM, mistakes, curves",
    "export": "save a run's network as ONNX, as torch.export's .pt2, or as bare weights",
    "convert": "turn flatten and dense layers into equal convolutions, for images of any size",
    "compare": "show runs side by side: seeds grouped, error bars, paired tests, curves, a report",
    "summary": "show a network's layers, sizes, parameters and memory, before any training",
}
HELP = f"""cnnlab {__version__}: config-driven training of convolutional networks

{{}}

cnnlab COMMAND --help explains a command, cnnlab train model=lenet --help a choice.
`python -m cnnlab COMMAND` is the same.
"""


@dataclass
class CommandLine:
    """The arguments after a command's name: words (runs or files), overrides (`key=value`) and options (with dashes)."""

    words: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    options: dict[str, str | None] = field(default_factory=dict)
    values: dict[str, list[str]] = field(default_factory=dict)  # all values of each option, in order: some may be repeated


def parse(arguments: Sequence[str], flags: Sequence[str] = (), with_value: Sequence[str] = ()) -> CommandLine:
    """Sort arguments into words, overrides and options.

    Args:
        arguments: those after the command's name.
        flags, with_value: the options that the command accepts, without and with a value ("--cfg job" or "--cfg=job").

    Raises:
        ConfigError: an unknown option, or an option without its value.
    """
    line, rest = CommandLine(), list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-") or argument == "-":  # "-" alone is standard input
            is_override = ("=" in argument or argument.startswith("~")) and not os.path.exists(argument)
            (line.overrides if is_override else line.words).append(argument)
            continue
        name, equals, value = argument.partition("=")
        if name in flags and not equals:
            line.options[name] = None
        elif name in with_value and (equals or rest):
            line.options[name] = given = value if equals else rest.pop(0)
            line.values.setdefault(name, []).append(given)
        elif name in with_value:
            raise ConfigError(f"{name}: expected a value after it")
        else:
            known = sorted({option for option in (*flags, *with_value, "--help") if option.startswith("--")})
            near = _as_setting(name, value if equals else rest[0] if rest else "VALUE") or suggest(name, known)
            raise ConfigError(f"{argument}: no such option.{near} Options: {', '.join(known)}.")
    return line


def _as_setting(option: str, value: str) -> str:
    from cnnlab.composing.overrides import near_key

    near = near_key(option.lstrip("-").replace("-", "_"), f"={value}")
    return f" Settings are written KEY=VALUE, without dashes.{near}" if "Did you mean" in near else ""


def print_help(text: str) -> None:
    """Print the text of a --help, wrapped between words at the terminal's width (80 without a terminal)."""
    if Path(sys.argv[0]).name == "cnnlab":  # as the user typed it
        text = text.replace("python -m cnnlab.", "cnnlab ")
    text = re.sub(r"^(\S.*[^:\n])\n(?=\S)", r"\1 ", text.rstrip("\n"), flags=re.MULTILINE)  # join the lines of a paragraph
    for line in text.split("\n"):
        print(folded(line, shutil.get_terminal_size().columns))


def tell_loading(what: str) -> None:
    """Print what delays a command's first output, such as importing torch; only on a terminal."""
    tell_waiting(f"loading {what}")


def tell_waiting(doing: str) -> None:
    """Print what a long step without output is doing; only on a terminal."""
    if sys.stderr.isatty():
        print(f"{doing} ...", file=sys.stderr, flush=True)


def config_directories(line: CommandLine) -> list[Path]:
    """Return the extra config directories, given by --config-dir.

    Raises:
        ConfigError: a directory does not exist.
    """
    directories = [Path(line.options[name] or "") for name in ("--config-dir", "-cd") if name in line.options]
    for directory in directories:
        if not directory.is_dir():
            raise ConfigError(f"--config-dir {directory}: no such directory")
    return directories


def only_one_run(line: CommandLine, command: str) -> str:
    """Return the only word of the command line, the directory of a run."""
    if len(line.words) != 1:
        got = " ".join(line.words) or "none"
        raise ConfigError(f"{command}: expected one run, such as last or outputs/fashion-lenet/2026-11-20_10-11-12; got {got}")
    return line.words[0]


def top(line: CommandLine) -> int | None:
    """Return the number given by --top, or None without it.

    Raises:
        ConfigError: not a whole number of 1 or more.
    """
    text = line.options.get("--top")
    if text is not None and not re.fullmatch("0*[1-9][0-9]{0,8}", text):
        raise ConfigError(f"--top {text:.20}: expected a whole number from 1 to 999,999,999")
    return None if text is None else int(text[-9:])


def settings(overrides: Sequence[str], keys: Sequence[str], command: str) -> dict[str, str]:
    """Return the overrides by key, for a command that takes only `keys`.

    Raises:
        ConfigError: any other key.
    """
    for override in overrides:
        if override.partition("=")[0] not in keys:
            raise ConfigError(f"{override}: neither a file nor a setting of {command}, which takes {', '.join(keys)}")
    return dict(override.split("=", 1) for override in overrides)


def run(command: str, arguments: Sequence[str], package: str = "cnnlab") -> int:
    """Call the `main` of a package's command and return the exit code; expected errors become one line on stderr."""

    def called() -> int:
        os.getcwd()  # without one, torch would abort the process
        return cast(int, importlib.import_module(f"{package}.{command}").main(arguments))

    return _ended(called)


def _ended(call: Callable[[], int]) -> int:
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell (`>&-`): the next file opened would take its place
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115 - until the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # for terminals with another encoding
    if sys.platform == "win32":
        return _fail(ConfigError("Windows: cnnlab runs on Linux and macOS; on Windows, run it in WSL (`wsl --install`)"))
    try:
        with ctrl_c_after_imports(), signals_exit():
            code = call()
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        with suppress(OSError):  # stderr may be closed
            print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has stopped reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        known = as_known(error)
        if known is None:
            raise
        return _fail(known)


def console_script() -> None:
    """`cnnlab COMMAND ...`."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["help"] and arguments[1:]:
        arguments = [*arguments[1:], "--help"]
    if arguments and arguments[0] in COMMANDS:
        sys.exit(run(arguments[0], arguments[1:]))
    sys.exit(_ended(lambda: _without_command(arguments)))


def _without_command(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print_help(HELP.format("\n".join(f"  {name:<11}{what}" for name, what in COMMANDS.items())))
    elif arguments[0] == "--version":
        print(f"cnnlab {__version__}")
    else:
        raise ConfigError(f"{arguments[0]}: no such command.{suggest(arguments[0], COMMANDS)} Commands: {', '.join(COMMANDS)}.")
    return 0


def _fail(error: CnnlabError) -> int:
    asked = isinstance(error, StoppedError) and error.stop.status is Status.INTERRUPTED
    prefix = "" if asked else "error: "
    with suppress(OSError):  # stderr may be closed
        note(f"{prefix}{error}")
    return error.exit_code
