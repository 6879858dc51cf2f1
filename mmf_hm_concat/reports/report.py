"""What `hm_concat report RUN` does: show how a run went, what it gets right, and why."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.reports.ablation import ablation
from mmf_hm_concat.reports.calibration import calibration
from mmf_hm_concat.reports.group_scores import group_scores
from mmf_hm_concat.reports.learning_curves import learning_curves
from mmf_hm_concat.reports.mistakes import mistakes
from mmf_hm_concat.reports.page import Section, Table, check_folder, write_page
from mmf_hm_concat.reports.run_memes import Predicted, Run, RunMemes, load_run
from mmf_hm_concat.reports.scores import scores
from mmf_hm_concat.training.metrics_log import METRICS, read_metrics
from mmf_hm_concat.utils.files import atomic_write
from mmf_hm_concat.utils.text import counted

# Within the run's folder.
FOLDER, NUMBERS = "report", "report.json"


def write_report(
    run_path: str | Path,
    *,
    split: str = "val",
    data_dir: str | Path | None = None,
    cache_dir: str | Path,
    unblur: bool = False,
    log: Callable[[str], None] = print,
) -> Path:
    """Write `report/index.html` and `report/report.json` in the run's folder; log the tables.

    Args:
        run_path: a run's `env.save_dir`, or one checkpoint in it.
        split, data_dir: see `RunMemes`.
        cache_dir: keeps the decoded images, as in training.
        unblur: show hateful and unlabelled memes without blur when the page opens.
        log: called with each block of lines.

    Returns:
        The path of the page. The same run and memes on the same machine give the same bytes.

    Raises:
        InputError: no checkpoint, no dataset files, or the page cannot be written.
    """
    run = load_run(Path(run_path))
    check_folder(run.folder / FOLDER)
    memes = RunMemes(run, split, data_dir, Path(cache_dir))
    sections, numbers = _sections(run, memes, split)
    for section in sections[1:]:
        for block in section.blocks:
            if isinstance(block, Table):
                shown = block.frame.to_string(index=False, float_format="{:,.3f}".format)
                log(f"{block.caption}\n{shown}\n")
    not_shown = list(dict.fromkeys(run.not_shown))
    for line in not_shown:
        log(f"not shown: {line}")
    files = " + ".join(path.name for path in memes.files(split))
    lead = (
        f"{counted(numbers['memes'], 'meme')} of the {split} split ({files}), as the best "
        f"checkpoint of {run.folder.absolute()} sees them. Hateful and unlabelled memes are "
        "blurred until you ask."
    )
    out = run.folder / FOLDER
    title = f"What this run does, on {split}"
    page = write_page(out, title, lead, sections, not_shown=not_shown, unblur=unblur)
    _write_numbers(
        out / NUMBERS, {"split": split, "files": files, **numbers, "not_shown": not_shown}
    )
    return page


def _sections(run: Run, memes: RunMemes, split: str) -> tuple[Sequence[Section], dict[str, Any]]:
    """The page's sections, and all of their numbers by name."""
    say, records = run.not_shown, read_metrics(run.folder / METRICS)
    curves = learning_curves(records, say)
    predicted = memes.of_split()
    numbers: dict[str, Any] = {"memes": 0, "labelled": 0, "learning_curves": records}
    if predicted is None:
        return [curves], numbers
    numbers |= {"memes": len(predicted.memes), "labelled": int(predicted.is_labelled.sum())}
    validation = memes.of_validation()
    training = memes.of_training() if run.member is not None else None
    parts = {
        "metrics": scores(predicted, split, say),
        "calibration": calibration(predicted, validation, split, say),
        "ablation": ablation(run.member, predicted, _mean_image(training, predicted, say), say),
        "confounders": group_scores(predicted, say),
        "memes_shown": mistakes(run.member, predicted, training, say),
    }
    numbers |= {name: found for name, (_, found) in parts.items()}
    return [curves, *(section for section, _ in parts.values())], numbers


def _mean_image(training: Predicted | None, predicted: Predicted, say: list[str]) -> Any:
    if training is not None:
        return training.mean_pixels
    if predicted.mean_pixels is not None:
        say.append("nearest training memes; and the mean image is that of this split's memes.")
    return predicted.mean_pixels


def _write_numbers(path: Path, numbers: dict[str, Any]) -> None:
    try:
        with atomic_write(path) as temporary:
            text = json.dumps(_plain(numbers), allow_nan=False, indent=2)
            temporary.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error}).") from None


def _plain(value: Any) -> Any:
    """The same for JSON, which has no NaN."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
