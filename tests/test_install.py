"""What the set-up leaves: MMF's own code as published, and an environment without conflicts."""

import hashlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT

# Of the names and contents of all files but the metadata in the wheel that the index serves:
# mmf-1.0.0rc10-cp38-cp38-manylinux1_x86_64.whl, whose own digest tools/install.py compares.
PUBLISHED = "78b249eb3bf2f8c8fa6e3b4bf7988be8b3aa6d353aed87ff34c62c303387d826"


def test_mmf_is_the_published_release_byte_for_byte():
    digest = hashlib.sha256()
    for file in sorted(metadata.files("mmf"), key=str):
        if file.parts[0] in ("mmf", "mmf_cli") and file.suffix != ".pyc":
            content = hashlib.sha256(file.locate().read_bytes()).digest()
            digest.update(str(file).encode() + b"\0" + content)
    assert digest.hexdigest() == PUBLISHED


def test_no_requirement_is_unmet():
    uv = Path(sys.executable).with_name("uv")
    done = subprocess.run(
        [uv, "pip", "check", "--python", sys.executable], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    required = [line.split(";")[0] for line in metadata.requires("mmf")]
    assert "torch==2.11.0" in required and "omegaconf==2.0.6" in required


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--extras", "encoders,nosuch"], "There are no extras nosuch; there are dev, encoders,"),
        (["--into", "/nowhere/python"], "--into /nowhere/python: no Python that runs"),
        (["--into", "false"], "--into false: no Python that runs"),
    ],
)
def test_a_wrong_option_ends_the_set_up_before_it_begins(arguments, message):
    program = [sys.executable, ROOT / "tools" / "install.py", *arguments]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr


def test_the_extra_that_is_compiled_says_that_it_needs_a_compiler(tmp_path):
    program = [sys.executable, ROOT / "tools" / "install.py", "--extras", "fast_png"]
    done = subprocess.run(program, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("The extra fast_png is compiled here")
