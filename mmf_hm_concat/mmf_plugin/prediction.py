"""What mmf_predict leaves: the competition's CSV, or MMF's report file of another data set."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from mmf.common.test_reporter import TestReporter
from mmf.models.base_model import BaseModel
from mmf.utils.configuration import get_mmf_env
from mmf.utils.distributed import is_master
from omegaconf import DictConfig

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.inference.scoring import score
from mmf_hm_concat.inference.submission import write_submission
from mmf_hm_concat.mmf_plugin.dataset import HMCompetitionDataset
from mmf_hm_concat.mmf_plugin.evaluation import SplitReport

# What is always told of a labelled split: the metric's name in MMF -> in `score`.
SCORED = {"accuracy": "accuracy", "roc_auc": "auroc", "macro_f1": "macro_f1"}


def predict(
    reports: Sequence[SplitReport],
    get_reporter: Callable[[], TestReporter],
    model: BaseModel,
    config: DictConfig,
    save_dir: Path,
    log: Callable[[str], None],
) -> None:
    """Write what was predicted for the test split of each data set of the run.

    Args:
        get_reporter: makes MMF's reporter, and the folder that it writes to.
        config: `evaluation` of the run's.

    Raises:
        InputError: what is to be written cannot be.
    """
    if not is_master():
        return
    for each in reports:
        is_ours = isinstance(each.dataset, HMCompetitionDataset)
        if is_ours:
            path = Path(config.predict_file or save_dir / "submission.csv")
            _write_submission(each, path, config, log)
        if each.metrics:
            shown = ", ".join(f"{name} {value:.4f}" for name, value in each.metrics.items())
            log(f"Against the labels of {each.dataset.dataset_name}: {shown}")
        if not is_ours or get_mmf_env(key="report_dir"):  # ours has said it all, unless asked for
            _write_mmf_report(get_reporter, each, model)


def _write_submission(
    each: SplitReport, path: Path, config: DictConfig, log: Callable[[str], None]
) -> None:
    """Write the CSV; where there are labels, score it as it was written."""
    memes = each.dataset.memes
    probabilities = torch.softmax(each.report.scores.double(), dim=1)[:, 1].numpy()
    summary = write_submission(
        path, memes, probabilities, threshold=config.threshold, id_format=config.id_format
    )
    log(str(summary))
    if each.metrics:
        scores, name = score(path, memes), each.dataset.dataset_name
        # Accuracy and macro-F1 are those of the labels as written, at evaluation.threshold.
        for metric, key in SCORED.items():
            value = scores[key]
            each.metrics[f"{name}/{metric}"] = math.nan if value is None else value


def _write_mmf_report(
    get_reporter: Callable[[], TestReporter], each: SplitReport, model: BaseModel
) -> None:
    results = each.dataset.format_for_prediction(each.report)
    try:
        reporter = get_reporter()
        reporter.report = model.format_for_prediction(results, each.report)
        reporter.current_dataset = each.dataset
        reporter.flush_report()
    except OSError as error:
        raise InputError(
            f"MMF's report file cannot be written ({error}). Another place: env.report_dir."
        ) from None
