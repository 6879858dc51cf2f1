"""The thin layer between MMF and the pure modules: importing it registers every part.

What changes MMF or the process (see `patches`) waits for `install`.
"""

from mmf_hm_concat.mmf_plugin import (  # noqa: F401
    dataset,
    loss,
    model,
    processors,
    scheduler,
    trainer,
)
from mmf_hm_concat.mmf_plugin.patches import install

__all__ = ["install"]
