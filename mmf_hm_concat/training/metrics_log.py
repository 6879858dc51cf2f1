"""The files that say how a run went: `metrics.jsonl`, a line an epoch, and `results.json`."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training.metric_sinks import MetricSink, Record
from mmf_hm_concat.utils.files import atomic_write

# In `env.save_dir`.
METRICS, RESULTS = "metrics.jsonl", "results.json"


class MetricsLog(MetricSink):
    """Appends each epoch's record to `metrics.jsonl` as a JSON object, and is right after a resume.

    NaN and infinity, which JSON lacks, become null.

    Args:
        path: of the file.
        epochs: how many the run has finished. Lines of later ones, which it trains again, and
            a line that a kill cut short are removed.

    Raises:
        InputError: by `epoch`: the file cannot be written.
    """

    def __init__(self, path: Path, epochs: int = 0):
        self.path, self.epochs = path, epochs
        self._is_cut = False

    def epoch(self, record: Record) -> None:
        try:
            if not self._is_cut:  # not before: until then the file is an earlier run's
                self._cut()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(record))
        except OSError as error:
            raise _cannot_write(self.path, error) from None

    def _cut(self) -> None:
        kept = [record for record in read_metrics(self.path) if record["epoch"] <= self.epochs]
        with atomic_write(self.path) as temporary:
            temporary.write_text("".join(map(_line, kept)), encoding="utf-8")
        self._is_cut = True


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


def read_results(path: Path) -> dict[str, Any] | None:
    """A `results.json`; None where there is none, or it is damaged."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return results if isinstance(results, dict) else None


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write `results.json`: what a finished run came to. InputError where that fails."""
    try:
        with atomic_write(path) as temporary:
            text = json.dumps(_plain(results), allow_nan=False, indent=2)
            temporary.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise _cannot_write(path, error) from None


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be written ({error}). Free some space and go on with "
        "checkpoint.resume=true."
    )


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(_plain(record), allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
