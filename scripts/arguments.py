"""Command-line parsing that the maintainers' commands share."""

import re
from collections.abc import Sequence

from cnnlab.errors import ConfigError, suggest


def chosen(words: Sequence[str], choices: Sequence[str], kind: str) -> list[str]:
    """Return the words, each once, or all choices if there are none.

    Raises:
        ConfigError: a word that is not a choice; `kind` says what it should be.
    """
    for word in words:
        if word not in choices:
            raise ConfigError(f"{word}: no such {kind}.{suggest(word, choices)} Choices: {', '.join(choices)}.")
    return list(dict.fromkeys(words)) or list(choices)


def count(text: str | None, option: str) -> int | None:
    """Return the value of an option that takes a number of 1 or more, or None if it is not given.

    Raises:
        ConfigError: not such a number.
    """
    if text is None:
        return None
    if not re.fullmatch("[0-9]+", text) or int(text) < 1:
        raise ConfigError(f"{option} {text}: expected a number of 1 or more")
    return int(text)
