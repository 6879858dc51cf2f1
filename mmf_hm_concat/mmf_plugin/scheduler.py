"""`reduce_on_plateau`: lower the learning rate when validation stops improving."""

from mmf.common.registry import registry
from torch.optim.lr_scheduler import ReduceLROnPlateau


@registry.register_scheduler("reduce_on_plateau")
class ReduceOnPlateau(ReduceLROnPlateau):
    """torch's `ReduceLROnPlateau` under a name that MMF's YAML can use.

    `concat_trainer` steps it once an epoch with the validation loss; parameters are torch's
    (factor, patience in epochs, ...). MMF's own trainer steps schedulers by update: not for it.
    """
