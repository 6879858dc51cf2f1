"""`metrics.jsonl`: what each epoch of a run came to, as one JSON object a line."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.utils.files import atomic_write

METRICS = "metrics.jsonl"


class MetricsLog:
    """Appends to the file, and is right after a resume.

    Args:
        path: of the file.
        epochs: how many the run has finished. Lines of later ones, which it trains again, and
            a line that a kill cut short are removed.

    Raises:
        InputError: the file cannot be written; by `append`, too.
    """

    def __init__(self, path: Path, epochs: int = 0):
        self.path = path
        kept = [record for record in read_metrics(path) if record["epoch"] <= epochs]
        try:
            with atomic_write(path) as temporary:
                temporary.write_text("".join(map(_line, kept)), encoding="utf-8")
        except OSError as error:
            raise self._cannot_write(error) from None

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one epoch's record, which holds "epoch" (int); NaN and infinity become null."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(record))
        except OSError as error:
            raise self._cannot_write(error) from None

    def _cannot_write(self, error: OSError) -> InputError:
        return InputError(
            f"{self.path}: cannot be written ({error}). Free some space and go on with "
            "checkpoint.resume=true."
        )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`, without a last line cut short; none without the file."""
    records = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("epoch"), int):
            records.append(record)
    return records


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(_plain(record), allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
