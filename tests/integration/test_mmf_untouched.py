"""With the plug-in loaded, what MMF brings is what it was without it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

# In a fresh process: MMF's functions, classes, registered names and a config of its own, before
# and after the plug-in is loaded.
SNAPSHOT = """
import argparse, json, os, sys, types
from mmf.common.registry import registry
from mmf.utils.configuration import Configuration
from mmf.utils.env import setup_imports
from omegaconf import OmegaConf

def parts():
    found = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] not in ("mmf", "mmf_cli") or module is None:
            continue
        for key, value in vars(module).items():
            if callable(value):
                found[f"{name}.{key}"] = value
            if isinstance(value, type) and value.__module__ == name:
                found |= {f"{name}.{key}.{k}": v for k, v in vars(value).items() if callable(v)}
    return found

def registered():
    return {(kind, name): value for kind, names in registry.mapping.items() if kind != "state"
            for name, value in names.items()}

def config():
    options = ["config=projects/hateful_memes/configs/mmbt/defaults.yaml", "model=mmbt",
               "dataset=hateful_memes", "training.batch_size=7", "run_type=train_val"]
    given = argparse.Namespace(opts=options, config_override=None)
    return OmegaConf.to_container(Configuration(given).get_config())

setup_imports()
os.chdir(os.path.dirname(sys.modules["mmf"].__file__))
before, had, settings = parts(), registered(), config()
import mmf_hm_concat
after, has = parts(), registered()
print("RESULT", json.dumps({
    "replaced": sorted(key for key in before if after.get(key) is not before[key]),
    "overwritten": [name for name in had if has.get(name) is not had[name]],
    "same_config": config() == settings,
}))
"""


def test_loading_the_plug_in_leaves_what_mmf_has_as_it_was(cache):
    done = subprocess.run(
        [sys.executable, "-c", SNAPSHOT],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.rpartition("RESULT ")[2])
    listed = re.findall(
        r"(?m)^`(_\w+)`  ", (ROOT / "mmf_hm_concat/mmf_plugin/patches.py").read_text()
    )
    prefix = "mmf.utils.configuration.Configuration."
    assert result["replaced"] == sorted(prefix + name for name in listed)
    assert result["overwritten"] == [] and result["same_config"]
