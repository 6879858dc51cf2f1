"""A whole split through the model: metrics for validation, probabilities for the submission."""

import functools
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from mmf.common.registry import registry
from mmf.common.report import Report
from mmf.common.sample import SampleList
from mmf.datasets.multi_dataset_loader import MultiDatasetLoader
from mmf.modules.metrics import Metrics
from mmf.utils.distributed import get_rank, get_world_size
from torch import Tensor, nn
from tqdm import tqdm

from mmf_hm_concat.config.check import unknown
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin.distributed import on_first_rank
from mmf_hm_concat.training.precision import autocast

# Besides what the metrics ask for: what MMF's data sets read in `format_for_prediction`.
REPORTED = ("scores", "targets", "id", "question_id", "image_id", "context_tokens")


@dataclass
class SplitReport:
    """One data set's split: its fields for all memes, in order, on every rank; and its metrics.

    Attributes:
        dataset: the MMF data set.
        report: MMF's Report with ``scores`` float (N, C), and ``targets``, ``id``, ... if present.
        metrics: by name, as "hm_competition/roc_auc" or "hm_competition/loss"; empty without
            labels. A metric that is not defined on this split is NaN.
    """

    dataset: Any
    report: Report
    metrics: dict[str, float]


def build_metrics(names: Any) -> Metrics:
    """`evaluation.metrics` of the config; raises InputError for one that MMF does not have."""
    known = registry.mapping["metric_name_mapping"]
    names = [names] if isinstance(names, str) else names
    for each in names:
        name = each if isinstance(each, str) else each.get("type")
        if name not in known:
            raise InputError(f"evaluation.metrics: {unknown('metric', str(name), known)}")
    return Metrics(names)


def evaluate(
    model: nn.Module,
    loader: MultiDatasetLoader,
    metrics: Metrics,
    precision: str,
    device: torch.device,
    log: Any,
) -> list[SplitReport]:
    """Run every data set of ``loader`` through ``model``; each meme counts exactly once.

    All ranks get the same reports: the fields are gathered first and the metrics computed on
    the whole split, because the mean of the ranks' AUROCs is not the AUROC.
    """
    training = model.training
    model.eval()
    if get_world_size() > 1:  # each rank has its own batch norm statistics: take the first's
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)
    reports = []
    for dataset, data_loader in zip(loader.datasets, loader.loaders, strict=True):
        fields = _run(model, dataset, data_loader, metrics, precision, device)
        report = SampleList(fields)
        report.dataset_name, report.dataset_type = dataset.dataset_name, loader.dataset_type
        found: dict[str, float] = {}
        if "targets" in report:
            # Early stopping follows them on every rank: another kind of CPU may round otherwise.
            compute = functools.partial(_metrics, model, report, metrics, log)
            found = on_first_rank(compute)
        reports.append(SplitReport(dataset, Report(report, {}), found))
    model.train(training)
    return reports


def _run(
    model: nn.Module,
    dataset: Any,
    data_loader: Any,
    metrics: Metrics,
    precision: str,
    device: torch.device,
) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {}
    wanted = {*REPORTED, *metrics.required_params}
    bar = tqdm(
        data_loader, desc=dataset.dataset_type, unit="batch", leave=False, disable=None
    )  # not shown where there is no terminal
    with torch.inference_mode(), autocast(precision, device):
        for batch in bar if get_rank() == 0 else data_loader:
            prepared = dataset.prepare_batch(batch)
            output = model(prepared)
            for name in wanted:
                value = output.get(name, prepared.get(name))
                if isinstance(value, Tensor):
                    parts.setdefault(name, []).append(value)
    fields = {name: torch.cat(values).cpu() for name, values in parts.items()}
    if "scores" in fields:
        fields["scores"] = fields["scores"].float()
    return _in_order(fields, data_loader.batch_sampler.rows_read(), len(dataset))


def _in_order(fields: dict[str, Tensor], rows: list[int], total: int) -> dict[str, Tensor]:
    """Put the ranks' parts together in the split's order; what padded a batch drops out."""
    parts: list[Any] = [(rows, fields)]
    if get_world_size() > 1:
        parts = [None] * get_world_size()
        torch.distributed.all_gather_object(parts, (rows, fields))
    names = next(fields for rows, fields in parts if rows)
    whole = {name: value.new_empty((total, *value.shape[1:])) for name, value in names.items()}
    for part_rows, part in parts:
        for name, value in part.items():
            whole[name][torch.tensor(part_rows)] = value
    return whole


def _metrics(model: Any, report: SampleList, metrics: Metrics, log: Any) -> dict[str, float]:
    losses = model.losses(report, {"scores": report.scores})
    found = {f"{report.dataset_name}/loss": float(sum(loss.mean() for loss in losses.values()))}
    output = {"scores": report.scores}
    if len(report.targets.unique()) < 2:
        log(
            f"{report.dataset_type} split of {report.dataset_name}: all memes have the same label, "
            "so AUROC is not defined there.",
            "warning",
        )
    for name, metric in metrics.metrics.items():
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Only one class is present")  # said above
                value = float(metric.calculate(report, output))
        except ValueError:  # scikit-learn's way to say that one class is missing
            value = float("nan")
        found[f"{report.dataset_name}/{name}"] = value
    return found
