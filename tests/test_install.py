"""What the set-up leaves: MMF's own code as published, and an environment without conflicts."""

import hashlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

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
