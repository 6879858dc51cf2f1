"""The command `hm_concat` itself: what holds for whatever it is asked to do."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from mmf_hm_concat.cli import main
from mmf_hm_concat.cli.shared import cache_dir

BIN = Path(sys.executable).parent


@pytest.mark.parametrize("program", [[sys.executable, "-m", "mmf_hm_concat"], [BIN / "hm_concat"]])
def test_the_module_is_the_command_and_tells_its_version(program):
    done = subprocess.run([*program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"hm_concat {metadata.version('mmf_hm_concat')}\n"


def test_a_file_that_is_read_is_not_written(sample, tmp_path, capsys):
    lines = (sample / "test.jsonl").read_text().splitlines()
    numbers = [int(json.loads(line)["id"]) for line in lines]
    csv, other = tmp_path / "submission.csv", tmp_path / "other.csv"
    csv.write_text("id,proba,label\n" + "".join(f"{n},0.{n % 4 + 5},1\n" for n in numbers))
    other.write_bytes(csv.read_bytes())
    image = sample / "img" / f"{numbers[0]:05}.png"
    before = csv.read_bytes(), image.read_bytes()
    for command, message in (
        (["show", csv, csv], "ends in .png"),
        (["show", csv, image], "would be overwritten"),
        (["ensemble", csv, other, "--out", f"{tmp_path}/./submission.csv"], "would be overwritten"),
        (["ensemble", tmp_path, other, "--out", csv], "would be overwritten"),
    ):
        assert main([*map(str, command), "--data", str(sample)]) == 1
        assert message in capsys.readouterr().err
    assert (csv.read_bytes(), image.read_bytes()) == before
    assert main(["ensemble", str(csv), str(other), "--out", str(other), "--data", str(sample)]) == 1


def test_control_characters_in_names_do_nothing_to_the_terminal(tmp_path, capsys):
    data = tmp_path / "\x1b[2Jdata"
    (data / "img").mkdir(parents=True)
    line = {"id": 1, "img": "img/\x1b[2J.png", "text": "", "label": 1}
    (data / "train.jsonl").write_text(json.dumps(line))
    (data / "test.jsonl").write_text("")
    assert main(["check-data", str(data)]) == 1
    assert main(["check", str(data / "x.csv"), "--data", str(data)]) == 1
    printed = "".join(capsys.readouterr())
    assert "\x1b" not in printed and "\\x1b[2Jdata" in printed


def test_config_show_prints_what_a_project_changes():
    command = [BIN / "hm_concat", "config", "show", "concat/sample", "--changed"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["model_config"]["concat_vl"]["vision"]["name"] == "resnet18"


def test_ctrl_c_is_one_line_and_exit_code_130(tmp_path):
    program = [BIN / "hm_concat", "sample", tmp_path / "sample", "--memes", "20000"]
    # Whatever started the tests may ignore it, as a shell does for what runs in the background.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as running:
        while not list(tmp_path.glob(".sample-*/sample/img/*")):  # at work
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        error = running.communicate(timeout=60)[1]
    assert (running.returncode, error.strip()) == (130, "Interrupted.")
    assert list(tmp_path.iterdir()) == []


def test_the_cache_is_where_mmf_has_it(monkeypatch, tmp_path):
    from torch.hub import _get_torch_home

    for name in ("MMF_CACHE_DIR", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_dir() == Path(_get_torch_home()) / "mmf" / "mmf_hm_concat"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == Path(_get_torch_home()) / "mmf" / "mmf_hm_concat"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert cache_dir() == Path(_get_torch_home()) / "mmf" / "mmf_hm_concat"
    monkeypatch.setenv("MMF_CACHE_DIR", str(tmp_path / "mmf"))
    assert cache_dir() == tmp_path / "mmf" / "mmf_hm_concat"


def test_labels_in_place_of_probabilities_are_hinted_at(sample, tmp_path, capsys):
    numbers = [json.loads(line)["id"] for line in (sample / "test.jsonl").open()]
    for probabilities, hinted in (("01", True), (("0.25", "1"), False)):
        rows = [f"{int(n)},{probabilities[i % 2]},{i % 2}\n" for i, n in enumerate(numbers)]
        (tmp_path / "s.csv").write_text("id,proba,label\n" + "".join(rows))
        assert main(["check", str(tmp_path / "s.csv"), "--data", str(sample)]) == 0
        assert ("all probabilities are 0 or 1" in capsys.readouterr().out) == hinted


def test_check_gives_all_that_it_says_to_programs(sample, tmp_path, capsys):
    truth = [line.split(",") for line in (sample / "test_truth.csv").read_text().splitlines()[1:]]
    rows = [f"{int(each[0])},0.{int(each[-1]) + 3}{n},0\n" for n, each in enumerate(truth)]
    csv, data = tmp_path / "s.csv", ["--data", str(sample), "--json", "--threshold", "1"]
    csv.write_text("id,proba,label\n" + "".join(rows))
    assert main(["check", str(csv), "--truth", str(sample / "test_truth.csv"), *data]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == [] and found["memes"] == len(truth)
    assert found["scores"]["auroc"] == 1 and found["scores"]["accuracy"] < 1
    csv.write_text("id,proba,label\n" + "".join(rows[1:]))
    assert main(["check", str(csv), *data]) == 1
    found = json.loads(capsys.readouterr().out)
    assert "1 id is missing" in found["problems"][0] and found["scores"] is None


def test_a_shell_can_complete_commands_options_and_names(tmp_path):
    def completions(line):
        shell = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
        out = tmp_path / "completions"
        environment = {**os.environ, **shell, "_ARGCOMPLETE_STDOUT_FILENAME": str(out)}
        subprocess.run([BIN / "hm_concat"], env=environment, check=True, stderr=subprocess.PIPE)
        return [each.strip() for each in out.read_text().split("\v")]

    assert {"check", "check-data"} <= {*completions("hm_concat ch")}
    assert completions("hm_concat evaluate --pro") == ["--protocol"]
    assert "concat/defaults" in completions("hm_concat config concat/")


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_that_wait_leave_the_core_to_others_unless_told(tmp_path, given, expected):
    program = (
        "import os, sys; from mmf_hm_concat.cli import main; assert 'torch' not in sys.modules;"
        "main(['cache']); print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**kept, **given, "MMF_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == expected, done.stderr
