"""The command `hm_concat` itself: what holds for whatever it is asked to do."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from mmf_hm_concat.cli import main

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
