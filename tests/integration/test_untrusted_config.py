"""Code that a config in a run's folder names is not run, unless the command line names it."""

import os
import subprocess

import pytest
from conftest import BIN, ROOT

pytestmark = pytest.mark.slow

# What a stranger wants to be run.
EVIL = "import pathlib, sys\npathlib.Path({marker!r}).touch()\nsys.exit('evil')\n"


@pytest.fixture
def run(tmp_path):
    """A run's folder from a stranger, with code of his under several names."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "best.ckpt").touch()
    for name in ("evil", "mmf_hm_concat"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(EVIL.format(marker=str(tmp_path / "marker")))
    return folder


def predict(run, yaml, *options, cwd=ROOT):
    (run / "config.yaml").write_text(yaml)
    done = subprocess.run(
        [BIN / "mmf_predict", f"config={run / 'config.yaml'}", *options],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize(
    "yaml",
    [
        "env: {{user_dir: {run}/evil}}",
        "env: {{user_dir: {run}/mmf_hm_concat}}",  # of our name, but not ours
        "includes: [included.yaml]",
    ],
)
def test_code_named_by_the_config_beside_a_checkpoint_is_not_run(cache, run, yaml):
    (run / "included.yaml").write_text(f"env: {{user_dir: {run}/evil}}")
    error = predict(run, yaml.format(run=run))
    assert "error: " in error and "Traceback" not in error
    assert f"add env.user_dir={run}" in error and f"else env.user_dir={ROOT}" in error
    assert not (run.parent / "marker").exists()


def test_code_named_through_another_group_is_not_run(cache, run):
    error = predict(run, f"other: {{user_dir: {run}/evil}}\nenv: ${{other}}")
    assert "config.yaml, line 2: env is a group" in error and "Traceback" not in error
    assert not (run.parent / "marker").exists()


def test_code_of_our_name_in_the_current_folder_is_not_run(cache, run):
    (run / "mmf_hm_concat" / "__init__.py").rename(run / "mmf_hm_concat.py")
    (run / "mmf_hm_concat").rmdir()
    error = predict(run, "env: {user_dir: mmf_hm_concat}", cwd=run)
    assert "beside a checkpoint" in error and "Traceback" not in error
    assert not (run.parent / "marker").exists()


def test_code_named_on_the_command_line_is_run(cache, run):
    error = predict(run, f"env: {{user_dir: {run}/evil}}", f"env.user_dir={run}/evil")
    assert error.strip().endswith("evil") and (run.parent / "marker").exists()


@pytest.mark.parametrize("user_dir", ["mmf_hm_concat", ROOT / "mmf_hm_concat"])
def test_this_plug_in_is_loaded_by_the_config_beside_a_checkpoint(cache, run, user_dir, tmp_path):
    error = predict(run, f"env: {{user_dir: {user_dir}}}", cwd=tmp_path)
    assert "error: No model is named" in error
