"""docs/tutorial.md: what it tells to type works, in its order, and its keys are keys."""

import os
import re
import subprocess
import sys

import pytest
from conftest import BIN, ROOT

from mmf_hm_concat.config.check import lookup
from mmf_hm_concat.config.description import KEYS
from mmf_hm_concat.config.reference import defaults

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
# Short for the groups, as the page says.
SHORT = {
    "hm_competition.": "dataset_config.hm_competition.",
    "concat_vl.": "model_config.concat_vl.",
}


@pytest.mark.slow
def test_every_command_of_the_tutorial_works(cache, tmp_path):
    """In one folder, one after the other, on fewer memes than the page has."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", TUTORIAL, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    said = []
    for kind, block in blocks:
        block = block.replace(
            "hm_concat sample data/sample", "hm_concat sample data/sample --memes 96"
        )
        program = ["bash", "-ec", block] if kind == "sh" else [sys.executable, "-c", block]
        done = subprocess.run(
            program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, block + done.stdout + done.stderr
        said.append(done.stdout)
    assert (tmp_path / "memes.png").exists()
    together = "".join(said)
    for words in ("can be used", "Fit to upload", "Mean and standard deviation of the 2 runs"):
        assert words in together
    assert "update_frequency: 16" in said[-1]


def test_the_tables_keys_exist_with_the_defaults_it_tells():
    rows = re.findall(r"^\| `(.*?) \| (.*?) \| (.*?) \| (.*?) \|$", TUTORIAL, re.MULTILINE)
    theirs = [name for row in rows for name in re.findall(r"\w+", row[0])]
    assert {"embedding_dim", "fasttext_model", "early_stop_patience", "verbose"} <= {*theirs}
    given, compared = defaults(), 0
    for row in rows[-23:]:
        keys = [key for key in re.findall(r"`([\w.]+)`", row[2]) if "." in key and key[0] != "."]
        for short, group in SHORT.items():
            keys = [
                f"{group}{key.removeprefix(short)}" if key.startswith(short) else key
                for key in keys
            ]
        assert all(key in KEYS for key in keys), keys
        if keys and (told := re.match(r"[\d.e-]+(?=$|[ ,:])", row[3])):
            assert float(told[0]) == float(lookup(given, keys[0]))
            compared += 1
    assert compared >= 12
