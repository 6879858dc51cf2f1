"""The thin layer between MMF and the pure modules: importing it registers every part."""

from mmf_hm_concat.plugin import (  # noqa: F401
    changes,
    dataset,
    loss,
    model,
    processors,
    scheduler,
    trainer,
)
