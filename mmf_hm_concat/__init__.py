"""Mid-level concat fusion for Hateful Memes: a plug-in of MMF, and a classifier without it.

Importing this package beside MMF registers its builder, processors, model, trainer and
scheduler: MMF does so itself for `env.user_dir: mmf_hm_concat`. Without MMF the import stays
light, so that `MemeClassifier` and the `hm_concat` command start in seconds.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from typing import Any


class _RegisterAfterMMF(importlib.abc.MetaPathFinder):
    """Register our parts as soon as somebody imports MMF after us."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "mmf":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("mmf")
        if spec is None:
            return None
        load_mmf = spec.loader.exec_module

        def load_mmf_then_register(module: Any) -> None:
            load_mmf(module)
            importlib.import_module("mmf_hm_concat.mmf_plugin")

        spec.loader.exec_module = load_mmf_then_register
        return spec


if "mmf" in sys.modules:
    importlib.import_module("mmf_hm_concat.mmf_plugin")
else:
    sys.meta_path.insert(0, _RegisterAfterMMF())


def __getattr__(name: str) -> Any:
    if name == "MemeClassifier":  # imports torch, which the other uses may not need
        from mmf_hm_concat.inference.classifier import MemeClassifier

        return MemeClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
