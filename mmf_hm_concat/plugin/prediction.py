"""What mmf_predict leaves: the competition's CSV, and the report file MMF's users look for."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mmf.common.test_reporter import TestReporter
from mmf.utils.distributed import is_master

from mmf_hm_concat.plugin.dataset import HMCompetitionDataset
from mmf_hm_concat.plugin.evaluation import SplitReport
from mmf_hm_concat.submission import write_submission

if TYPE_CHECKING:
    from mmf_hm_concat.plugin.trainer import ConcatTrainer


def predict(trainer: "ConcatTrainer") -> None:
    """Predict the test split of every data set of the run."""
    reports = trainer._evaluate("test")
    if not is_master():
        return
    reporter = trainer.dataset_loader.get_test_reporter("test")
    for each in reports:
        _write_mmf_report(reporter, each, trainer)
        if isinstance(each.dataset, HMCompetitionDataset):
            settings = trainer.config.evaluation
            path = Path(settings.predict_file or trainer.save_dir / "submission.csv")
            probabilities = torch.softmax(each.report.scores.double(), dim=1)[:, 1].numpy()
            summary = write_submission(
                path,
                each.dataset.memes,
                probabilities,
                threshold=settings.threshold,
                id_format=settings.id_format,
            )
            trainer.log(str(summary))
        if each.figures:
            shown = ", ".join(f"{name} {value:.4f}" for name, value in each.figures.items())
            trainer.log(f"Against the labels of {each.dataset.dataset_name}: {shown}")


def _write_mmf_report(reporter: TestReporter, each: SplitReport, trainer: "ConcatTrainer") -> None:
    results = each.dataset.format_for_prediction(each.report)
    reporter.report = trainer.model.format_for_prediction(results, each.report)
    reporter.current_dataset = each.dataset
    reporter.flush_report()
