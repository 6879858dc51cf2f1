"""When validation has stopped improving: which epoch was best, and whether to go on."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class EarlyStopping:
    """Follows one validation metric over the epochs.

    Attributes:
        criterion: name of the metric, as `hm_competition/roc_auc`.
        minimize: whether less is better.
        patience: epochs without an improvement after which to stop; infinite when disabled.
        min_delta: what counts as an improvement for the patience. (The best epoch is the best by
            any margin.)
        best_metrics: all metrics of the best epoch, by name.
    """

    criterion: str
    minimize: bool
    patience: float
    min_delta: float
    best: float = math.nan
    best_epoch: int = 0
    best_update: int = 0
    reference: float = math.nan
    num_bad_epochs: int = 0
    best_metrics: dict[str, float] = field(default_factory=dict)

    def better(self, value: float, than: float, margin: float = 0.0) -> bool:
        gain = than - value if self.minimize else value - than
        return math.isnan(than) or gain > margin

    def update(self, metrics: Mapping[str, float], epoch: int, num_updates: int) -> bool:
        """Take an epoch's metrics, the criterion among them; returns whether it is the best so far.

        While the criterion is not defined (NaN: AUROC with one class only), the newest is. Never
        one whose loss is not finite: it predicts nothing.
        """
        value = metrics[self.criterion]
        if not all(math.isfinite(each) for name, each in metrics.items() if name.endswith("loss")):
            self.num_bad_epochs += 1
            return False
        if not math.isnan(value) and self.better(value, self.reference, self.min_delta):
            self.reference, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        is_best = math.isnan(self.best) if math.isnan(value) else self.better(value, self.best)
        if is_best:
            self.best_metrics = dict(metrics)
            if not math.isnan(value):
                self.best, self.best_epoch, self.best_update = value, epoch, num_updates
        return is_best

    @property
    def stop(self) -> bool:
        return self.num_bad_epochs >= self.patience

    def forget_best(self) -> None:
        """Take the next value for the best so far, whatever it is; the patience stays."""
        self.best, self.best_epoch, self.best_update = math.nan, 0, 0

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what was seen, not what to look for: that is this run's own."""
        seen = ("best", "best_epoch", "best_update", "reference", "num_bad_epochs", "best_metrics")
        for key in seen:
            setattr(self, key, state[key])
