"""The one exception that means: what the user gave cannot be used, and here is why."""

import re


class InputError(Exception):
    """Bad input: data, configuration, checkpoint or command.

    ``str(error)`` is the whole message a person needs: which file, line, field or key,
    what is wrong with it, and what to do. The commands print it without a traceback and
    exit with code 1. Control characters in it, as a file's name may have, are escaped, and lines
    that nobody could read are cut.
    """

    def __init__(self, message: str):
        super().__init__(printable("\n".join(map(_cut, message.split("\n")))))


def _cut(line: str) -> str:
    """A line without the middle of words that have no end, or without its own."""
    line = re.sub(r"\S{1001,}", lambda word: f"{word[0][:300]}...{word[0][-300:]}", line)
    return line if len(line) <= 4000 else f"{line[:3000]} ... {line[-500:]}"


def printable(text: str) -> str:
    """Text that does nothing to a terminal but appear on it, in lines.

    Escape sequences, marks that turn the direction of writing, and halves of surrogate pairs
    (which cannot even be printed) become backslash escapes.
    """
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )
