"""What the tests share: a tiny sample of memes, and the real commands run on it."""

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parent.parent
# Small enough to train in seconds.
TINY = [
    "dataset_config.hm_competition.image_size=32",
    "training.max_epochs=2",
    "training.batch_size=16",
    # Seconds that only the tests of the report need.
    "training.report=false",
]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# A CLIP that computes in milliseconds, in open_clip's words.
TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def screenshot(page, folder, width, height):
    """Open a page in headless Chromium; returns its PNG, ``height`` high, and what it logged.

    The page is in a frame of ``width``, as Chromium's own window is never narrower than 500.
    """
    frame, png = folder / "frame.html", folder / "page.png"
    style = f"border:0;width:{width}px;height:{height}px"
    frame.write_text(f"<body style='margin:0'><iframe src='{page.as_uri()}' style='{style}'>")
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}"),
            *(f"--window-size={max(width, 500)},{height}", f"--screenshot={png}"),
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return png, done.stderr


def add_tiny_clip(folder, name="tiny-clip"):
    """Let open_clip know `TINY_CLIP`, by a file in ``folder``; returns its name."""
    import open_clip

    (folder / f"{name}.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(folder / f"{name}.json")
    return name


@pytest.fixture(autouse=True)
def no_logs_of_earlier_runs():
    """MMF adds handlers with each run in a process: to files, and to a stream of that test.

    Our trainer takes them over, and the config's level with them.
    """
    yield
    ours = logging.getLogger("mmf_hm_concat")
    ours.handlers, ours.propagate = [], True
    ours.setLevel(logging.NOTSET)
    for name in ("mmf.train", "py.warnings"):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            with suppress(OSError):  # a test's disk was full
                handler.close()


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A cache of our own: nothing that an earlier run left on this machine helps a test pass."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["MMF_CACHE_DIR"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """Generated dataset files in phase 1's layout."""
    from mmf_hm_concat.data.synthetic import make_sample

    out = tmp_path_factory.mktemp("data") / "sample"
    make_sample(out, memes=96)
    return out


@pytest.fixture(scope="session")
def command(cache, sample):
    """Run a command as a user would: `command("mmf_run", save_dir, "key=value", ...)`."""

    def run(program, save_dir, *options, cwd=ROOT, check=True):
        config = ["config=projects/concat/sample.yaml"] if cwd == ROOT else []
        done = subprocess.run(
            [
                *(str(BIN / program).split()),
                *config,
                f"dataset_config.hm_competition.data_dir={sample}",
                f"env.save_dir={save_dir}",
                *TINY,
                *options,
            ],
            cwd=cwd,
            capture_output=True,
            text=True,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def mmf_command(cache):
    """Run a command with no other options: `mmf_command("mmf_run", "key=value", ...)`."""

    def run(program, *options):
        done = subprocess.run([BIN / program, *options], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def run_in_process(cache):
    """MMF in this process, with no other options: `run_in_process(options, predict=False)`."""
    import torch
    from mmf_cli.run import run as mmf_run

    from mmf_hm_concat.mmf_plugin import install
    from mmf_hm_concat.training.precision import threads

    install()  # the package is imported already, so MMF does not load it

    def run(options, predict=False):
        os.chdir(ROOT)
        # A prediction takes all cores for the rest of its process, and sums over more threads
        # round otherwise: what follows would not be what a command of its own computes.
        with threads(torch.get_num_threads()):
            mmf_run([*options, *["evaluation.predict=true"] * predict], predict=predict)

    return run


@pytest.fixture(scope="session")
def mmf(run_in_process, sample):
    """MMF in this process, on the sample: `mmf(save_dir, "key=value", ..., predict=False)`."""

    def run(save_dir, *options, predict=False, project="concat/sample"):
        ours = not any(each.startswith("training.trainer=") for each in options)
        given = [
            f"config=projects/{project}.yaml",
            f"dataset_config.hm_competition.data_dir={sample}",
            f"env.save_dir={save_dir}",
            *(each for each in TINY if ours or not each.startswith("training.report")),
            *options,
        ]
        run_in_process(given, predict)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory, command):
    """(folder, output of mmf_run, output of mmf_predict): the real commands, once."""
    folder = tmp_path_factory.mktemp("run")
    training = command("mmf_run", folder, "run_type=train_val")
    prediction = command("mmf_predict", folder)
    return folder, training.stdout + training.stderr, prediction.stdout + prediction.stderr


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
