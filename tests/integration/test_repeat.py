"""`hm_concat repeat`: members as mmf_run would train them, resumed, and one lost alone."""

import json
import shutil
import signal
import subprocess

import pytest
import torch
from conftest import BIN, ROOT, TINY

from mmf_hm_concat.training import checkpoints

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def arguments(cache, sample):
    """The command line of a series in a folder."""

    def make(save_dir, *more):
        options = [f"dataset_config.hm_competition.data_dir={sample}", *TINY]
        repeat = [str(BIN / "hm_concat"), "repeat", "concat/sample", "--seeds", "2"]
        return [*repeat, *options, f"env.save_dir={save_dir}", *more]

    return make


@pytest.fixture(scope="module")
def repeat(arguments):
    def run(save_dir, *more):
        return subprocess.run(
            arguments(save_dir, *more), cwd=ROOT, capture_output=True, text=True, timeout=300
        )

    return run


@pytest.fixture(scope="module")
def series(repeat, tmp_path_factory):
    """Its folder, and what was printed."""
    folder = tmp_path_factory.mktemp("series") / "series"
    done = repeat(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def weights(folder):
    return checkpoints.load_checkpoint(folder / checkpoints.BEST)["model"]


def assert_same(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_member_has_the_bits_of_a_run_of_its_own(series, trained, command, tmp_path):
    """The first is what the config gives; the second another seed, in memes drawn, too."""
    folder, printed = series
    assert_same(folder / "seed=42", trained[0])
    seeds = ["training.seed=43", "dataset_config.hm_competition.sampling_seed=43"]
    command("mmf_run", tmp_path, "run_type=train_val", *seeds)
    assert_same(folder / "seed=43", tmp_path)
    assert "[2/2]" in printed and "Mean and standard deviation of the 2 runs" in printed
    assert "Ensemble of the 2 runs" in printed


def test_what_is_finished_is_not_trained_again(series, repeat):
    folder, printed = series
    before = (folder / "seed=42" / checkpoints.BEST).stat().st_mtime_ns
    done = repeat(folder)
    assert done.returncode == 0 and done.stdout.count("finished already") == 2
    assert "epoch 1/" not in done.stdout
    assert (folder / "seed=42" / checkpoints.BEST).stat().st_mtime_ns == before
    table = "Mean and standard deviation"
    assert done.stdout.partition(table)[2] == printed.partition(table)[2]
    other = repeat(folder, "optimizer.params.lr=1e-3")
    assert other.returncode == 1
    assert "was trained with another config: optimizer.params.lr 0.0005 (now 0.001)" in other.stderr
    nowhere = repeat(folder, "training.sed=1")
    assert nowhere.returncode == 1 and "training.seed" in nowhere.stderr


def test_a_stopped_series_goes_on_to_the_same_bits(series, arguments, repeat, tmp_path):
    process = subprocess.Popen(
        arguments(tmp_path), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = []
    for line in process.stdout:
        said.append(line)
        if "epoch 1/" in line:
            process.send_signal(signal.SIGTERM)
            break
    said += process.communicate(timeout=120)[0].splitlines()
    assert process.returncode == 130 and "Stopped. The same command goes on from here." in said
    assert not (tmp_path / "seed=43" / checkpoints.BEST).exists()
    assert repeat(tmp_path).returncode == 0
    for seed in ("seed=42", "seed=43"):
        assert_same(tmp_path / seed, series[0] / seed)
        assert json.loads((tmp_path / seed / "member.json").read_text())["finished"]


def test_one_that_fails_is_told_and_the_others_stay(series, repeat, tmp_path):
    shutil.copytree(series[0] / "seed=42", tmp_path / "train=train" / "seed=42")
    (tmp_path / "train=train" / "seed=42" / "member.json").unlink()
    refused = repeat(tmp_path, "--grid", "dataset_config.hm_competition.splits.train=train,none")
    assert refused.returncode == 1 and "a run that hm_concat repeat did not make" in refused.stderr
    shutil.rmtree(tmp_path / "train=train")
    done = repeat(
        tmp_path, "--seeds", "1", "--grid", "dataset_config.hm_competition.splits.train=none,train"
    )
    assert done.returncode == 1
    assert "1 member of 2 not finished:" in done.stdout
    assert "train=none/seed=42: ended with exit code 1" in done.stdout
    assert "none.jsonl" in done.stderr
    assert "dev" in done.stdout.partition("not finished")[2]  # the table of the other
    assert_same(tmp_path / "train=train" / "seed=42", series[0] / "seed=42")


def test_a_wrong_setting_is_told_before_anything_is_trained(repeat, tmp_path):
    done = repeat(tmp_path, "--grid", "optimizer.params.lr=1e-3,fast")
    assert done.returncode == 1 and "lr=fast: optimizer.params.lr = 'fast'" in done.stderr
    assert not any(tmp_path.iterdir())
