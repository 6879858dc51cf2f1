"""What unmodified MMF 1.0.0rc10 needs on today's Python, in one module.

MMF imports ``demjson`` before it does anything, and that package (2.2.4) cannot be built
with any setuptools since 58. This module stands in its place, so it also is the first code
of ours to run in ``mmf_run`` and ``mmf_predict``. MMF's main branch needs none of it.
"""

import collections
import collections.abc
import os
import sys
import warnings

# MMF's `--config_override` calls demjson.decode; demjson3 has the same interface.
from demjson3 import decode, encode  # noqa: F401

# MMF's logger asks for collections.Mapping, which Python 3.10 moved to collections.abc.
collections.Mapping = collections.abc.Mapping

# MMF prints its arguments before any plug-in is loaded: a password among them goes into the
# environment, where `mmf_plugin.patches` puts one from the YAML, too.
ZIP_PASSWORD = "dataset_config.hm_competition.zip_password"
for place, argument in enumerate(sys.argv):
    key, has_equal, value = argument.partition("=")
    if key == ZIP_PASSWORD and has_equal:
        os.environ["HM_ZIP_PASSWORD"] = value
        sys.argv[place] = f"{key}=$HM_ZIP_PASSWORD"
    elif key == ZIP_PASSWORD and place + 1 < len(sys.argv):  # MMF's other form: key value
        os.environ["HM_ZIP_PASSWORD"] = sys.argv[place + 1]
        sys.argv[place + 1] = "$HM_ZIP_PASSWORD"

# Not one of these tells the user of a command anything: they are about MMF's own code.
for message in (
    r"cfg\.pretty\(\) is deprecated",  # omegaconf 2.0, each time MMF prints a config
    r"invalid escape sequence",  # transformers 2.3.0, when Python first compiles it
    r"pkg_resources is deprecated",  # setuptools 67+, imported by MMF's dependencies
    r"Device specified is 'cuda' but cuda is not present",  # MMF's default device on a CPU
    r"No type for scheduler specified",  # MMF asks, although lr_scheduler is off
):
    warnings.filterwarnings("ignore", message=message)
