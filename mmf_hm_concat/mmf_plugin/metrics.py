"""What `evaluation.metrics` names: any metric of MMF's registry, three of them computed by us.

`roc_auc`, `accuracy` and `macro_f1` of two classes are those of `training/metrics.py`, so that a
training, `hm_concat check --truth` and `evaluate` cannot disagree. With parameters, or of another
number of classes, they are MMF's, as all others are.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from mmf.common.registry import registry
from mmf.common.sample import SampleList
from mmf.modules.metrics import BaseMetric

from mmf_hm_concat.training.metrics import Metric, accuracy_at, auroc, macro_f1_at, value_of

OURS: dict[str, Metric] = {
    "roc_auc": auroc,
    "accuracy": accuracy_at(0.5),
    "macro_f1": macro_f1_at(0.5),
}


class Metrics:
    """The metrics of a run. (MMF's class of this name drops their params.)

    Args:
        entries: `evaluation.metrics`, checked: names, or {type: name, params: {...}}, or one.

    Attributes:
        required_params: fields of a batch or of the model's output that they read.
    """

    def __init__(self, entries: Any):
        self.metrics: dict[str, BaseMetric] = {}
        self.with_params: set[str] = set()
        for entry in [entries] if isinstance(entries, str | Mapping) else entries:
            name = entry if isinstance(entry, str) else entry["type"]
            params = {} if isinstance(entry, str) else entry.get("params") or {}
            self.metrics[name] = registry.get_metric_class(name)(**params)
            if params:
                self.with_params.add(name)
        needed = (metric.required_params for metric in self.metrics.values())
        self.required_params = {name for names in needed for name in names}

    def __call__(self, report: SampleList) -> dict[str, float]:
        """Each metric by name; NaN where it is not defined on these memes.

        Args:
            report: a whole split: "scores" float (N, C), "targets" int (N,), and whatever the
                metrics require.
        """
        return {name: self._value(name, report) for name in self.metrics}

    def _value(self, name: str, report: SampleList) -> float:
        is_binary = report.scores.ndim == 2 and report.scores.shape[1] == 2
        if name in OURS and name not in self.with_params and is_binary and report.targets.ndim == 1:
            probabilities = torch.softmax(report.scores.double(), dim=1)[:, 1]
            return value_of(OURS[name], report.targets.numpy(), probabilities.numpy())
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Only one class is present")  # evaluation says it
                return float(self.metrics[name].calculate(report, {"scores": report.scores}))
        except ValueError:  # scikit-learn's way to say that one class is missing
            return float("nan")
