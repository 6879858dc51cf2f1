"""What mmf_predict leaves: the competition's CSV, and the report file MMF's users look for."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mmf.common.test_reporter import TestReporter
from mmf.utils.distributed import is_master

from mmf_hm_concat.inference.scoring import score
from mmf_hm_concat.inference.submission import check_config, write_submission
from mmf_hm_concat.mmf_plugin.dataset import HMCompetitionDataset
from mmf_hm_concat.mmf_plugin.evaluation import SplitReport

if TYPE_CHECKING:
    from mmf_hm_concat.mmf_plugin.trainer import ConcatTrainer


def predict(trainer: "ConcatTrainer") -> None:
    """Predict the test split of every data set of the run."""
    settings = trainer.config.evaluation
    check_config(settings.threshold, settings.id_format)
    reports = trainer._evaluate("test")
    if not is_master():
        return
    reporter = trainer.dataset_loader.get_test_reporter("test")
    for each in reports:
        _write_mmf_report(reporter, each, trainer)
        if isinstance(each.dataset, HMCompetitionDataset):
            _write_submission(each, trainer)
        if each.figures:
            shown = ", ".join(f"{name} {value:.4f}" for name, value in each.figures.items())
            trainer.log(f"Against the labels of {each.dataset.dataset_name}: {shown}")


def _write_submission(each: SplitReport, trainer: "ConcatTrainer") -> None:
    """Write the CSV; where there are labels, score it as it was written."""
    settings, memes = trainer.config.evaluation, each.dataset.memes
    path = Path(settings.predict_file or trainer.save_dir / "submission.csv")
    probabilities = torch.softmax(each.report.scores.double(), dim=1)[:, 1].numpy()
    summary = write_submission(
        path, memes, probabilities, threshold=settings.threshold, id_format=settings.id_format
    )
    trainer.log(str(summary))
    if each.figures:
        scores, name = score(path, memes), each.dataset.dataset_name
        # MMF's accuracy knows no threshold, and evaluation.metrics may not ask for these two.
        for metric, key in (("accuracy", "accuracy"), ("roc_auc", "auroc")):
            value = scores[key]
            each.figures[f"{name}/{metric}"] = math.nan if value is None else value


def _write_mmf_report(reporter: TestReporter, each: SplitReport, trainer: "ConcatTrainer") -> None:
    results = each.dataset.format_for_prediction(each.report)
    reporter.report = trainer.model.format_for_prediction(results, each.report)
    reporter.current_dataset = each.dataset
    reporter.flush_report()
