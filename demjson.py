"""What unmodified MMF 1.0.0rc10 needs on today's Python, in one module.

MMF imports ``demjson`` before it does anything, and that package (2.2.4) cannot be built
with any setuptools since 58. This module stands in its place, so it also is the first code
of ours to run in ``mmf_run`` and ``mmf_predict``, and the place for what must come before MMF
loads a plug-in. MMF's main branch needs none of it.
"""

import collections
import collections.abc
import importlib.util
import os
import re
import sys
import warnings
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import yaml

# MMF's `--config_override` calls demjson.decode; demjson3 has the same interface.
from demjson3 import decode, encode  # noqa: F401
from omegaconf import DictConfig, OmegaConf

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


def interrupted(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Ctrl-C is no error: one line; Python then ends with the signal, 130 in a shell."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("\nInterrupted.\n")
    else:
        sys.__excepthook__(kind, error, trace)


if Path(sys.argv[0]).name in ("mmf_run", "mmf_predict"):
    sys.excepthook = interrupted
    if sys.stderr.isatty():  # the first line that a command can print
        sys.stderr.write("Loading MMF ...\n")

# Not one of these tells the user of a command anything: they are about MMF's own code.
for message in (
    r"cfg\.pretty\(\) is deprecated",  # omegaconf 2.0, each time MMF prints a config
    r"invalid escape sequence",  # transformers 2.3.0, when Python first compiles it
    r"pkg_resources is deprecated",  # setuptools 67+, imported by MMF's dependencies
    r"Device specified is 'cuda' but cuda is not present",  # MMF's default device on a CPU
    r"No type for scheduler specified",  # MMF asks, although lr_scheduler is off
):
    warnings.filterwarnings("ignore", message=message)


def option(key: str) -> Any:
    """The command line's last ``key=value`` or ``key value``, read as MMF reads it."""
    given = None
    for argument, following in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        name, has_equal, value = argument.partition("=")
        if name == key:
            given = value if has_equal else following
    return yaml.safe_load(given or "")


def load(path: Path) -> DictConfig:
    """A YAML with what it includes, as MMF's `load_yaml` puts them together."""
    mmf = Path(importlib.util.find_spec("mmf").submodule_search_locations[0])
    config, included = OmegaConf.load(str(path)), OmegaConf.create()
    for name in config.pop("includes", []):
        file = mmf / name if (mmf / name).exists() else path.parent / name
        included = OmegaConf.merge(included, load(file))
    return OmegaConf.merge(included, config)


def is_there(user_dir: str) -> bool:
    """Whether MMF finds what it would import for this `env.user_dir`, where it looks for it."""
    mmf = Path(importlib.util.find_spec("mmf").submodule_search_locations[0])
    places = [Path(user_dir), mmf.parent / user_dir, mmf / user_dir]
    try:
        is_module = user_dir.isidentifier() and importlib.util.find_spec(user_dir) is not None
        return is_module or any(each.exists() for each in places)
    except (OSError, ValueError):
        return False


def is_ours(user_dir: str) -> bool:
    """Whether what MMF would import for this `env.user_dir` is the package beside this file."""
    folder, name = os.path.split(os.path.abspath(user_dir))  # noqa: PTH100
    found = PathFinder.find_spec(name, [folder])
    if found is None:
        return user_dir == OURS.name  # installed, not in the current folder
    return found.origin is not None and Path(found.origin).resolve() == OURS / "__init__.py"


# A run's folder is moved and shared, and MMF runs the code that a config names as user_dir.
OURS = Path(__file__).resolve().with_name("mmf_hm_concat")
config, user_dir = option("config"), option("env.user_dir")
if config and not user_dir:
    config = Path(str(config)).absolute()
    if config.is_file():
        user_dir = (OmegaConf.to_container(load(config)).get("env") or {}).get("user_dir")
        if user_dir and any(config.parent.glob("*.ckpt")) and not is_ours(str(user_dir)):
            sys.exit(
                f"error: {config} lies beside a checkpoint, and its env.user_dir, {user_dir!r}, "
                f"is not this plug-in ({OURS}): MMF would run the code in it. If you trust that "
                f"code, add env.user_dir={user_dir} to the command; else env.user_dir={OURS}."
            )
if user_dir and "${" not in str(user_dir) and not is_there(str(user_dir)):
    sys.exit(
        f"error: env.user_dir = {user_dir}: MMF finds no such package to import, neither from this "
        f"folder nor among those installed. This plug-in is {OURS.name}, in {OURS}."
    )
