"""The encoders' libraries, which are extras: imported when an encoder of theirs is asked for."""

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from mmf_hm_concat.errors import InputError

# Module -> distribution (requirements/encoders.txt).
DISTRIBUTIONS = {
    **{"timm": "timm", "open_clip": "open_clip_torch", "safetensors": "safetensors"},
    **{"tokenizers": "tokenizers", "wordllama": "wordllama"},
}


def library(module: str, key: str) -> Any:
    """Import a module of `DISTRIBUTIONS`, or one inside it.

    Args:
        key: of the config, what needs it.

    Raises:
        InputError: it is not installed; says which command installs it.
    """
    try:
        with quiet():
            return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{key}: needs {DISTRIBUTIONS[module.split('.')[0]]}, which cannot be imported "
            f"({error}). Install the encoders' libraries: make EXTRAS=encoders install, or "
            "pip install 'mmf_hm_concat[encoders]'."
        ) from None


def version(module: str) -> str:
    """Distribution and version, as "timm 1.0.31"."""
    return f"{DISTRIBUTIONS[module]} {metadata.version(DISTRIBUTIONS[module])}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop warnings, what a library logs, and the handler that `logging.info` adds to the root.

    With that handler, every later line of every library is printed twice.
    """
    root = logging.getLogger()
    before, handlers = root.manager.disable, root.handlers[:]
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        root.handlers[:] = handlers
