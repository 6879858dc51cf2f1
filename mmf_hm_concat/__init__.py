"""Mid-level concat fusion for Hateful Memes: a plug-in of MMF, and a classifier without it.

MMF imports this package for `env.user_dir: mmf_hm_concat`, and only then are our parts registered
with it and its patches installed. Imported by itself the package does nothing, and is light, so
that `MemeClassifier` and the `hm_concat` command start in seconds. A program that imports this
package before MMF, and then runs MMF, calls `mmf_hm_concat.mmf_plugin.install()` itself.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from mmf_hm_concat.errors import InputError

if TYPE_CHECKING:
    from mmf_hm_concat.inference.classifier import MemeClassifier

__all__ = ["InputError", "MemeClassifier", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "MemeClassifier":  # imports torch, which the other uses may not need
        from mmf_hm_concat.inference.classifier import MemeClassifier

        return MemeClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if "mmf" in sys.modules:  # it is MMF that imports us
    importlib.import_module("mmf_hm_concat.mmf_plugin").install()
