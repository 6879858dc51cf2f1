"""YAML files that MMF could not read, or would read for minutes: one line with file and number."""

import os
import time
from pathlib import Path

import pytest

from mmf_hm_concat.config.yaml_files import read_lines, value_problem

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("training:\n  seed: [1\n", "line 3: not YAML"),
        ("a:\n\tb: 1\n", "line 2: not YAML"),
        ("a: 1\nb: 2\na: 3\n", "line 3: the key a is there twice, first in line 1"),
        ("a: 1\n2: b\n", "line 2: the key 2 is not text"),
        ("on: 1\n", "line 1: the key on is not text"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "line 3: the key << is not text"),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1: the tag !!python"),
        ("a: !mine 1\n", "line 1: the tag !mine"),
        ("a: !!int x\n", "line 1: 'x' is no int"),
        ("- 1\n- 2\n", "line 1: a config is keys"),
        ("only text\n", "line 1: a config is keys"),
        ("env: null\n", "line 1: env is a group of keys"),
        ("training: 5\n", "line 1: training is a group of keys"),
        ("a: b\nincludes: other.yaml\n", "line 2: includes is a list"),
        ("includes: [1]\n", "line 1: includes is a list"),
        ("includes:\n- nosuch.yaml\n", "line 2: includes nosuch.yaml, but there is no such file"),
        ("includes: [config.yaml]\n", "line 1: the files include each other in a circle"),
        ("a: \x01\n", "line 1: holds a character"),
        (b"a: b\nc: \xff\n", "line 2: not text in UTF-8"),
        (BOMB, "too much"),
        ("a: &a [*a]\n", "line 1: too much"),
        ("a: " + "[" * 3000, "line 1: nested too deeply"),
        ("a: " + "x" * 1_000_001, "larger than"),
    ],
)
def test_a_bad_file_is_one_line_at_once(tmp_path, content, message):
    file = tmp_path / "config.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    start = time.monotonic()
    lines, problem = read_lines(str(file), tmp_path / "mmf")
    assert time.monotonic() - start < 5
    assert lines == {} and str(file) in problem and message in problem and "\n" not in problem


def test_files_that_are_not_there(tmp_path):
    for file in (tmp_path / "nosuch.yaml", "x" * 300, "a\0b"):
        assert "no such config file" in read_lines(str(file), tmp_path)[1] or (
            "cannot be read" in read_lines(str(file), tmp_path)[1]
        )
    assert "is a folder" in read_lines(str(tmp_path), tmp_path)[1]


def test_a_file_that_never_ends_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "own.yaml").write_text("includes: [pipe.yaml]\n")
    for file in ("pipe.yaml", "own.yaml"):
        assert "pipe.yaml: is no regular file" in read_lines(str(tmp_path / file), tmp_path)[1]
    assert "is no regular file" in read_lines("/dev/zero", tmp_path)[1]


def test_a_list_over_a_group_of_keys_of_an_included_file_is_told(tmp_path):
    (tmp_path / "below.yaml").write_text("a: {b: {c: 1}, d: [1]}\n")
    own = tmp_path / "own.yaml"
    own.write_text("includes: [below.yaml]\na:\n  d: {e: 1}\n  b: [1]\n")
    assert (
        read_lines(str(own), tmp_path)[1] == f"{own}, line 4: a.b is a group of keys, not a list."
    )
    own.write_text("includes: [below.yaml]\na:\n  d: {e: 1}\n  b: null\n")
    assert read_lines(str(own), tmp_path)[1] is None


def test_includes_that_multiply_are_refused(tmp_path):
    for n in range(10):
        (tmp_path / f"{n}.yaml").write_text(f"includes: [{n + 1}.yaml, {n + 1}.yaml]\n")
    (tmp_path / "10.yaml").write_text("a: 1\n")
    assert "more than 100 files" in read_lines(str(tmp_path / "0.yaml"), tmp_path / "mmf")[1]


def test_lines_are_those_of_the_file_that_counts(tmp_path):
    (tmp_path / "below.yaml").write_text("training:\n  seed: 1\n  batch_size: 2\n")
    own = tmp_path / "own.yaml"
    own.write_text("includes: [below.yaml]\n\ntraining:\n  seed: 3\n")
    lines, problem = read_lines(str(own), tmp_path / "mmf")
    assert problem is None
    assert lines["training", "seed"] == f"{own}, line 4"
    assert lines["training", "batch_size"] == f"{tmp_path / 'below.yaml'}, line 3"


def test_an_empty_file_and_aliases_in_measure_are_fine(tmp_path):
    file = tmp_path / "config.yaml"
    for content in ("", "# nothing\n", "a: &x [1, 2]\nb: *x\n", "a: 2001-12-14\n"):
        file.write_text(content)
        assert read_lines(str(file), tmp_path)[1] is None


def test_all_our_projects_can_be_read():
    import mmf

    root = Path(__file__).resolve().parents[2] / "mmf_hm_concat"
    for file in root.rglob("*.yaml"):
        assert read_lines(str(file), Path(mmf.__file__).parent)[1] is None


@pytest.mark.parametrize(
    "value", ["[1", "@x", "'x", "x: y: z", "!!python/name:os.system x", "&a [*a]", "{a: 1, a: 2}"]
)
def test_a_value_that_is_no_yaml_is_named(value):
    assert value_problem(f"training.seed={value}").startswith("Command line, training.seed=")


@pytest.mark.parametrize("value", ["", "1e-3", "a/b c", "[a, b]", "{until: layer3}", "C:\\x"])
def test_values_that_are_yaml_pass(value):
    assert value_problem(f"key={value}") is None
