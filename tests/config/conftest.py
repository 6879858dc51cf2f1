"""MMF's `Configuration` in this process, as `mmf_run` builds it; nothing runs."""

import argparse
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def build(cache):
    """`build("key=value", ...)`: the merged and checked config of the sample's project."""
    from mmf.utils.env import setup_imports

    setup_imports()
    from mmf.utils.configuration import Configuration

    from mmf_hm_concat.mmf_plugin import install

    install()

    def start(*options, config="projects/concat/sample.yaml", override=None):
        os.chdir(ROOT)
        given = argparse.Namespace(opts=[f"config={config}", *options], config_override=override)
        return Configuration(given).get_config()

    return start
