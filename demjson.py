"""What unmodified MMF 1.0.0rc10 needs on today's Python, in one module.

MMF imports ``demjson`` before it does anything, and that package (2.2.4) cannot be built
with any setuptools since 58. This module stands in its place, so it also is the first code
of ours to run in ``mmf_run`` and ``mmf_predict``. MMF's main branch needs none of it.
"""

import collections
import collections.abc
import importlib.util
import os
import re
import sys
import warnings
from pathlib import Path

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


def problem_of_command() -> str | None:
    """What is wrong with the YAML or an option of `mmf_run` or `mmf_predict`, before MMF reads it.

    The plug-in checks what they say, but is loaded only when MMF has read them.
    """
    if Path(sys.argv[0]).name not in ("mmf_run", "mmf_predict"):
        return None
    # By its path: importing our package now would register the plug-in in runs without it.
    path = Path(__file__).with_name("mmf_hm_concat") / "config" / "yaml_files.py"
    spec = importlib.util.spec_from_file_location("yaml_files", path)
    yaml_files = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(yaml_files)
    mmf_root = Path(importlib.util.find_spec("mmf").origin).parent
    for argument, following in zip(sys.argv[1:], [*sys.argv[2:], ""], strict=True):
        key, has_equal, value = argument.partition("=")
        problem = None
        if has_equal and re.fullmatch(r"[\w.\[\]]+", key):
            problem = yaml_files.value_problem(argument)
        if key == "config" and not problem:
            file = value if has_equal else following
            _, problem = yaml_files.read_lines(file, mmf_root, os.environ.get("MMF_USER_DIR"))
        if problem:
            return problem
    return None


if problem := problem_of_command():
    sys.exit(f"error: {problem}")

# Not one of these tells the user of a command anything: they are about MMF's own code.
for message in (
    r"cfg\.pretty\(\) is deprecated",  # omegaconf 2.0, each time MMF prints a config
    r"invalid escape sequence",  # transformers 2.3.0, when Python first compiles it
    r"pkg_resources is deprecated",  # setuptools 67+, imported by MMF's dependencies
    r"Device specified is 'cuda' but cuda is not present",  # MMF's default device on a CPU
    r"No type for scheduler specified",  # MMF asks, although lr_scheduler is off
):
    warnings.filterwarnings("ignore", message=message)
