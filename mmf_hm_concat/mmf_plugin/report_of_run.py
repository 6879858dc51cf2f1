"""The report that a training ends with: the page of `hm_concat report`, in the run's folder."""

from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from mmf_hm_concat.mmf_plugin.dataset import NAME, data_dir_of


def write_report_of_run(config: DictConfig, save_dir: Path, log: Callable[[str], None]) -> None:
    """Write `report/`, as `training.report` asks; for runs on other data sets than ours, nothing.

    The training is over and saved: whatever goes wrong here is logged, and costs nothing of it.
    """
    if not config.training.report or NAME not in config.datasets.split(","):
        return
    from mmf_hm_concat.reports.report import write_report  # matplotlib takes half a second

    data = config.dataset_config[NAME]
    try:
        page = write_report(
            save_dir, data_dir=data_dir_of(data), cache_dir=data.cache_dir, log=lambda lines: None
        )
    except Exception as error:  # among others, a GPU's memory may be full of this training
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        log(f"The report could not be written: {reason} Again: hm_concat report {save_dir}")
    else:
        log(f"Report: {page}")
