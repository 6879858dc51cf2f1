"""Lines of a file that is only appended to, each with its CRC-32: a torn or flipped one is skipped.

A line is "<crc of the rest, 8 hexadecimal digits> <JSON>".
"""

import json
import zlib
from typing import IO, Any


def parse(content: bytes) -> list[Any]:
    """What the lines of ``content`` hold, but for those that are not whole."""
    found = []
    for line in content.split(b"\n"):
        checksum, _, fields = line.partition(b" ")
        if fields and checksum == b"%08x" % zlib.crc32(fields):
            found.append(json.loads(fields))
    return found


def append(file: IO[bytes], fields: Any) -> None:
    """Write one line to a file that was opened unbuffered for appending."""
    written = json.dumps(fields).encode()
    # The newline comes first: it also ends a line that a kill has torn.
    file.write(b"\n%08x %s" % (zlib.crc32(written), written))
