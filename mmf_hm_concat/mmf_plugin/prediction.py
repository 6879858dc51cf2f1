"""What mmf_predict leaves: the competition's CSV, and the report file MMF's users look for."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from mmf.common.test_reporter import TestReporter
from mmf.models.base_model import BaseModel
from mmf.utils.distributed import is_master
from omegaconf import DictConfig

from mmf_hm_concat.inference.scoring import score
from mmf_hm_concat.inference.submission import write_submission
from mmf_hm_concat.mmf_plugin.dataset import HMCompetitionDataset
from mmf_hm_concat.mmf_plugin.evaluation import SplitReport

# What is always told of a labelled split: the metric's name in MMF -> in `score`.
SCORED = {"accuracy": "accuracy", "roc_auc": "auroc", "macro_f1": "macro_f1"}


def predict(
    reports: Sequence[SplitReport],
    reporter: TestReporter,
    model: BaseModel,
    config: DictConfig,
    save_dir: Path,
    log: Callable[[str], None],
) -> None:
    """Write what was predicted for the test split of each data set of the run.

    Args:
        reporter: of MMF, which writes its report file.
        config: `evaluation` of the run's.
    """
    if not is_master():
        return
    for each in reports:
        if isinstance(each.dataset, HMCompetitionDataset):
            path = Path(config.predict_file or save_dir / "submission.csv")
            _write_submission(each, path, config, log)
        if each.metrics:
            shown = ", ".join(f"{name} {value:.4f}" for name, value in each.metrics.items())
            log(f"Against the labels of {each.dataset.dataset_name}: {shown}")
        try:
            _write_mmf_report(reporter, each, model)
        except OSError as error:
            log(f"MMF's report file, which nothing here needs, cannot be written: {error}.")


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


def _write_mmf_report(reporter: TestReporter, each: SplitReport, model: BaseModel) -> None:
    results = each.dataset.format_for_prediction(each.report)
    reporter.report = model.format_for_prediction(results, each.report)
    reporter.current_dataset = each.dataset
    reporter.flush_report()
