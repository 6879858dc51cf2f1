"""Importing changes nothing in the process, `install` does once, and the public names are there."""

import json
import subprocess
import sys
from pathlib import Path

import mmf_hm_concat

PACKAGE = Path(mmf_hm_concat.__file__).parent

# Run in a fresh process. What a module could change in the process that imports it, before and
# after all of ours are imported; what other packages do when they are imported is done before.
IMPORTS = """
import importlib, json, logging, os, pathlib, signal, sys, warnings
import fasttext, pandas, PIL.Image, torch, torchvision, tqdm, yaml

def state():
    configuration = sys.modules.get("mmf.utils.configuration")
    return {
        "excepthook": sys.excepthook,
        "meta_path": list(sys.meta_path),
        "spawn": torch.multiprocessing.spawn,
        "Configuration": dict(vars(configuration.Configuration)) if configuration else None,
        "warnings": list(warnings.filters),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "environ": dict(os.environ),
        "argv": list(sys.argv),
        "logging": [(list(each.handlers), each.level, each.propagate)
                    for each in (logging.getLogger(), logging.getLogger("mmf_hm_concat"))],
        "process group": torch.distributed.is_initialized(),
        "threads": torch.get_num_threads(),
        "random state": torch.get_rng_state().tolist(),
    }

def changed(before):
    now = state()
    return [key for key in now if now[key] != before[key]]

def import_all(names):
    before = state()
    for name in names:
        importlib.import_module(name)
    return changed(before)

package = pathlib.Path(sys.argv[1])
names = [".".join(path.relative_to(package.parent).with_suffix("").parts)
         for path in sorted(package.rglob("*.py"))]
names = [name.removesuffix(".__init__") for name in names]
plug_in = [name for name in names if name.startswith("mmf_hm_concat.mmf_plugin")]
result = {"names": len(names)}
result["without MMF"] = import_all([name for name in names if name not in plug_in])
result["MMF imported"] = [name for name in sys.modules if name.partition(".")[0] == "mmf"]

from mmf.utils.env import setup_imports
setup_imports()
result["plug-in"] = import_all(plug_in)

from mmf_hm_concat.mmf_plugin import install
before = state()
install()
result["installed"] = changed(before)
before = state()
install()
result["installed twice"] = changed(before)
print("RESULT", json.dumps(result))
"""

# As MMF does for `env.user_dir`, when the package is not imported yet.
MMF_LOADS = """
import sys
from mmf.utils.env import import_user_module
before = sys.excepthook
import_user_module(sys.argv[1])
from mmf.common.registry import registry
from mmf.utils.configuration import Configuration
print("RESULT", registry.get_model_class("concat_vl").__name__, sys.excepthook is not before,
      Configuration._decode_value.__module__)
"""


def run(program, *arguments, cwd=None):
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("RESULT ")[2].strip()


def test_importing_our_modules_changes_nothing_and_installing_changes_it_once(cache):
    result = json.loads(run(IMPORTS, str(PACKAGE)))
    assert result.pop("names") > 40
    assert result == {
        "without MMF": [],
        "MMF imported": [],
        "plug-in": [],
        "installed": ["excepthook", "spawn", "Configuration"],
        "installed twice": [],
    }


def test_mmf_loads_the_plug_in_by_name_and_by_path(cache, tmp_path):
    """A name as `mmf_hm_concat` is looked for on Python's path, a path is taken as it is."""
    loaded = "ConcatVL True mmf_hm_concat.mmf_plugin.command_line"
    for user_dir in ("mmf_hm_concat", str(PACKAGE)):
        assert run(MMF_LOADS, user_dir, cwd=tmp_path) == loaded


def test_public_names_are_listed_and_there():
    names = ["InputError", "MemeClassifier", "__version__"]
    assert sorted(mmf_hm_concat.__all__) == names
    assert all(hasattr(mmf_hm_concat, name) for name in names)
    assert (PACKAGE / "py.typed").exists()


def test_setup_takes_the_version_from_the_package():
    setup = [sys.executable, "setup.py", "--version"]
    done = subprocess.run(setup, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.stdout.split()[-1:] == [mmf_hm_concat.__version__], done.stderr
