"""When validation has stopped improving: which epoch was best, and whether to go on."""

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class EarlyStopping:
    """Follows one validation figure over the epochs.

    Attributes:
        criterion: name of the figure, as `hm_competition/roc_auc`.
        minimize: whether less is better.
        patience: epochs without an improvement after which to stop; infinite when disabled.
        min_delta: what counts as an improvement for the patience. (The best epoch is the best by
            any margin.)
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

    def better(self, value: float, than: float, margin: float = 0.0) -> bool:
        gain = than - value if self.minimize else value - than
        return math.isnan(than) or gain > margin

    def update(self, value: float, epoch: int, num_updates: int) -> bool:
        """Take an epoch's figure; returns whether it is the best so far."""
        if math.isnan(value):  # not defined on this split, as AUROC with one class only
            self.num_bad_epochs += 1
            return False
        if self.better(value, self.reference, self.min_delta):
            self.reference, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if not self.better(value, self.best):
            return False
        self.best, self.best_epoch, self.best_update = value, epoch, num_updates
        return True

    @property
    def stop(self) -> bool:
        return self.num_bad_epochs >= self.patience

    def forget_best(self) -> None:
        """Take the next figure for the best so far, whatever it is; the patience stays."""
        self.best, self.best_epoch, self.best_update = math.nan, 0, 0

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what was seen, not the settings: those are this run's own."""
        for key in ("best", "best_epoch", "best_update", "reference", "num_bad_epochs"):
            setattr(self, key, state[key])
