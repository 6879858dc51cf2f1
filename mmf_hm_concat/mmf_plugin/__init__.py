"""The thin layer between MMF and the pure modules: importing it registers every part."""

from mmf_hm_concat.mmf_plugin import (  # noqa: F401
    dataset,
    loss,
    model,
    patches,
    processors,
    scheduler,
    trainer,
)
