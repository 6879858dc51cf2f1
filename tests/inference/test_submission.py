"""The submission file: what is written, ten ways of damaging it, and scoring."""

import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.inference.ensemble import combine
from mmf_hm_concat.inference.scoring import read_truth, score
from mmf_hm_concat.inference.submission import check_submission, write_submission

NUMBERS = [1236, 7, 98765, 500]
MEMES = pd.DataFrame({"id": ["01236", "00007", "98765", "00500"], "number": NUMBERS})
PROBABILITIES = np.array([0.1, 0.5, 1 / 3, 1.0])
GOOD = b"id,proba,label\n1236,0.1,0\n7,0.5,1\n98765,0.3333333333333333,0\n500,1.0,1\n"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "submission.csv"


def test_bytes_of_a_submission(path):
    summary = write_submission(path, MEMES, PROBABILITIES)
    assert path.read_bytes() == GOOD
    assert check_submission(path, NUMBERS) == []
    assert (summary.rows, summary.share_hateful, summary.mean_hateful) == (4, 0.5, 0.75)
    assert str(summary) == (
        f"Wrote {path}: 4 memes, 50.0% labelled hateful, mean proba of the hateful 0.750, "
        "mean proba of the benign 0.217."
    )


def test_padded_ids_are_the_same_ids(path):
    write_submission(path, MEMES, PROBABILITIES, id_format="padded")
    assert path.read_text().splitlines()[1:3] == ["01236,0.1,0", "00007,0.5,1"]
    assert check_submission(path, NUMBERS) == []


def test_labels_follow_the_threshold(path):
    write_submission(path, MEMES, PROBABILITIES, threshold=0.3)
    assert pd.read_csv(path)["label"].tolist() == [0, 1, 1, 1]
    assert check_submission(path, NUMBERS, threshold=0.3) == []
    assert len(check_submission(path, NUMBERS)) == 1


def test_one_meme_is_enough(path):
    summary = write_submission(path, MEMES[:1], PROBABILITIES[:1])
    assert check_submission(path, NUMBERS[:1]) == []
    assert summary.mean_hateful is None and "1 meme," in str(summary)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(1e-3, 1))
@settings(max_examples=60, deadline=None)
def test_reading_gives_the_same_numbers_back(tmp_path_factory, values, threshold):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    memes = pd.DataFrame({"number": range(len(values))})
    write_submission(path, memes, np.array(values), threshold=threshold)
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    assert [float(row[1]) for row in rows] == values
    assert [row[2] == "1" for row in rows] == [value >= threshold for value in values]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memes": MEMES[:0], "probabilities": np.zeros(0)}, "no memes"),
        ({"probabilities": PROBABILITIES[:3]}, r"\(3,\) probabilities for 4 memes"),
        ({"probabilities": PROBABILITIES.reshape(2, 2)}, "one for each"),
        ({"probabilities": np.array([0.1, np.nan, 0.2, 0.3])}, "line 3, '7,nan,0'"),
        ({"probabilities": np.array([0.1, 1.01, 0.2, -0.3])}, "in 2 lines"),
        ({"memes": MEMES.assign(number=[1, 2, 2, 3])}, "there more than once"),
        ({"threshold": 0}, "threshold 0"),
        ({"threshold": float("nan")}, "threshold nan"),
        ({"id_format": "string"}, "number or padded"),
    ],
)
def test_what_is_wrong_is_not_written(path, change, message):
    path.write_bytes(GOOD)
    arguments = {"memes": MEMES, "probabilities": PROBABILITIES, **change}
    with pytest.raises(InputError, match=message):
        write_submission(path, **arguments)
    assert path.read_bytes() == GOOD and len(list(path.parent.iterdir())) == 1


def test_a_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file/submission.csv", tmp_path):
        with pytest.raises(InputError, match="cannot be written"):
            write_submission(path, MEMES, PROBABILITIES)


DAMAGE = {
    "header": (b"id,proba", b"id,prob", "the header is 'id,prob,label'"),
    "header missing": (b"id,proba,label\n", b"", "the header is '1236,0.1,0'"),
    "semicolons": (b",", b";", "Separate the fields by commas"),
    "tabs": (b",", b"\t", "Separate the fields by commas"),
    "byte order mark": (b"id,proba", b"\xef\xbb\xbfid,proba", "byte order mark"),
    "empty": (GOOD, b"\n \n", "empty"),
    "header alone": (GOOD, b"id,proba,label\n", "4 ids are missing (1236, 7, 98765, 500)"),
    "missing": (b"7,0.5,1\n", b"", "1 id is missing (7)"),
    "extra": (b"\n7,", b"\n8,0.4,0\n7,", "1 id is not in the test file (8)"),
    "repeated": (b"\n7,", b"\n1236,0.1,0\n7,", "1 id is there more than once (1236)"),
    "leading zero makes no other id": (b"\n7,", b"\n01236,0.1,0\n7,", "there more than once"),
    "reordered": (b"1236,0.1,0\n7,0.5,1", b"7,0.5,1\n1236,0.1,0", "first at line 2: 7"),
    "id with a dot": (b"1236,", b"1236.0,", "id is not a number in 1 line (line 2"),
    "NaN": (b"0.5", b"nan", "proba is not a number from 0 to 1 in 1 line (line 3, '7,nan,1')"),
    "no probability": (b"0.5", b"", "proba is not a number"),
    "decimal underscore": (b"0.5", b"0_5", "proba is not a number"),
    "infinity": (b"0.5", b"1e999", "proba is not a number from 0 to 1"),
    "below 0": (b"0.1", b"-0.1", "proba is not a number from 0 to 1"),
    "above 1": (b"1.0", b"100", "proba is not a number from 0 to 1"),
    "contradiction": (b"0.1,0", b"0.9,0", "label contradicts proba at the threshold 0.5"),
    "swapped classes": (b"1.0,1", b"0.0,1", "label contradicts proba"),
    "label 2": (b"0.1,0", b"0.1,2", "label is neither 0 nor 1 in 1 line"),
    "label as float": (b"0.1,0", b"0.1,0.0", "label is neither 0 nor 1"),
    "a field more": (b"0.1,0", b"0.1,0,0", "Line 2: 4 fields instead of 3"),
    "a blank line": (b"\n7", b"\n\n7", "Line 3: 0 fields instead of 3"),
    "cut short": (b",0.3333333333333333,0\n500,1.0,1\n", b"", "Line 4: 1 field instead of 3"),
    "latin-1": (b"1236", b"\xe9", "not a CSV in UTF-8"),
    "open quote": (b"1236", b'"1236', "not a CSV in UTF-8"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found(path, name):
    old, new, message = DAMAGE[name]
    assert old in GOOD
    path.write_bytes(GOOD.replace(old, new))
    problems = check_submission(path, NUMBERS)
    assert any(message in problem for problem in problems), problems
    assert all(problem.endswith(".") and ":" in problem for problem in problems)


def test_all_rows_alike(path):
    path.write_bytes(b"id,proba,label\n1236,0.5,1\n7,0.50,1\n98765,0.5,1\n500,0.5,1\n")
    (problem,) = check_submission(path, NUMBERS)
    assert "All probabilities are 0.5" in problem and "AUROC will be 0.5" in problem


def test_several_problems_are_all_told(path):
    path.write_bytes(b"id,proba,label\n1236,2,0\n7,0.5,yes\n9,0.3,1\n")
    text = "\n".join(check_submission(path, NUMBERS))
    for part in ("2 ids are missing", "not in the test", "0 to 1", "neither", "contradicts"):
        assert part in text


def test_windows_line_ends_do_no_harm(path):
    path.write_bytes(GOOD.replace(b"\n", b"\r\n"))
    assert check_submission(path, NUMBERS) == []


def test_no_file(path):
    with pytest.raises(InputError, match="cannot be read"):
        check_submission(path, NUMBERS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_pipe_or_a_device_is_refused_at_once(tmp_path, ending):
    pipe, device = tmp_path / f"pipe.{ending}", tmp_path / f"zero.{ending}"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    for path, kind in ((pipe, "named pipe"), (device, "device")):
        for read in (lambda path: check_submission(path, NUMBERS), read_truth):
            with pytest.raises(InputError, match=f"cannot be read.*{kind}"):
                read(path)


PIECES = st.sampled_from([GOOD, b"id,proba,label\n", b"1", b"9" * 400, b",", b"\n", b"\r", b'"'])


@given(st.one_of(st.binary(max_size=200), st.lists(PIECES | st.binary(max_size=9)).map(b"".join)))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_sentences(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "bytes.csv"
    path.write_bytes(content)
    problems = check_submission(path, NUMBERS)
    assert all(isinstance(problem, str) for problem in problems)
    assert problems or [line.split(b",")[0] for line in content.split()[1:]]
    for of in (lambda: score(path, truth_of([0, 1, 0, 1])), lambda: read_truth(path)):
        try:
            of()
        except InputError as error:
            assert str(path) in str(error)


def truth_of(labels):
    return pd.DataFrame({"number": NUMBERS, "label": labels})


def test_score_joins_by_id(path):
    path.write_bytes(GOOD)
    truth = truth_of([0, 1, 1, 1]).iloc[::-1]
    found = {"auroc": 1.0, "accuracy": 0.75, "macro_f1": pytest.approx((4 / 5 + 2 / 3) / 2)}
    assert score(path, truth) == found
    found = {"auroc": 0.0, "accuracy": 0.25, "macro_f1": pytest.approx((2 / 5 + 0) / 2)}
    assert score(path, truth_of([1, 0, 0, 0])) == found


def test_a_truth_of_one_class_has_no_auroc(path):
    path.write_bytes(GOOD)
    assert score(path, truth_of([1, 1, 1, 1])) == {
        "auroc": None,
        "accuracy": 0.5,
        "macro_f1": pytest.approx(1 / 3),
    }


def test_a_truth_that_lacks_memes(path):
    path.write_bytes(GOOD)
    with pytest.raises(InputError, match="no label for: 500"):
        score(path, truth_of([0, 1, 0, 1])[:3])


@pytest.mark.parametrize("name", ["NaN", "semicolons", "header alone", "cut short"])
def test_damaged_files_are_not_scored(path, name):
    path.write_bytes(GOOD.replace(*DAMAGE[name][:2]))
    with pytest.raises(InputError, match="cannot be scored"):
        score(path, truth_of([0, 1, 0, 1]))


def test_truth_as_csv_and_jsonl(tmp_path):
    (tmp_path / "truth.csv").write_text("id,label\n01236,0\n7,1\n")
    (tmp_path / "truth.jsonl").write_text(
        '{"id": "01236", "label": 0, "text": "a\u2028b"}\n\n{"id": 7, "label": 1}\n', "utf-8"
    )
    for name in ("truth.csv", "truth.jsonl"):
        truth = read_truth(tmp_path / name)
        assert truth["number"].tolist() == [1236, 7] and truth["label"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("truth.csv", "id,label\n1,2\n", "line 2: .*an id and a label.*label is 2: write 0 or 1"),
        ("truth.csv", "id,label\n1,0\n2,0.7\n", "line 3: .*label is 0.7"),
        ("truth.csv", "id,label\n1236.9,1\n", "id is 1236.9"),
        ("truth.csv", "id,label\n1_0,1\n", "id is 1_0"),
        ("truth.jsonl", '{"id": 1, "label": 0.7}\n', "line 1: .*label is 0.7"),
        ("truth.jsonl", '{"id": 1, "label": true}\n', "label is True"),
        ("truth.jsonl", '\n{"id": 1236.9, "label": 1}\n', "line 2: .*id is 1236.9"),
        (
            "truth.jsonl",
            '{"id": 1, "label": 0}\n{"id": "01", "label": 0}\n',
            "line 2.*id 01 is there",
        ),
        ("truth.csv", "id,label\n1,0\n01,0\n", "id 01 is there twice"),
        ("truth.csv", "id,label\n1,\n", "an id and a label"),
        ("truth.csv", "id,proba\n1,0.5\n", "an id and a label"),
        ("truth.csv", "", "an id and a label"),
        ("truth.csv", "id,label\n99999999999999999999,1\n", "an id and a label"),
        ("truth.jsonl", '{"id": 1}\n', "an id and a label"),
        ("truth.jsonl", "[1]\n", "line 1, not a JSON object"),
        ("truth.jsonl", "{\n", "line 1, not a JSON object"),
        ("truth.jsonl", None, "cannot be read"),
    ],
)
def test_a_truth_that_is_none(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_truth(tmp_path / name)


def test_an_ensemble_is_the_mean_of_probabilities_or_ranks(path, tmp_path, caplog):
    path.write_bytes(GOOD)
    other = tmp_path / "other.csv"
    write_submission(other, MEMES, np.array([0.9, 0.8, 0.8, 0.95]), threshold=0.9)
    assert combine([path, other], NUMBERS).tolist() == pytest.approx([0.5, 0.65, 17 / 30, 0.975])
    ranks = combine([path, other], NUMBERS, by="rank")
    assert (ranks * 8).tolist() == pytest.approx([3, 3.5, 2.5, 7])
    assert caplog.text == ""
    combine([path, other, tmp_path / "." / "other.csv"], NUMBERS)
    assert f"{other} is given 2 times and counts as often" in caplog.text
    run = tmp_path / "run"
    run.mkdir()
    path.rename(run / "submission.csv")
    assert combine([run, other], NUMBERS, by="rank").tolist() == ranks.tolist()


@pytest.mark.parametrize(
    ("members", "by", "message"),
    [
        ([], "rank", "two or more"),
        (["a.csv"], "rank", "two or more"),
        (["a.csv", "a.csv"], "median", "not by 'median'"),
        (["a.csv", "nowhere.csv"], "rank", "nowhere.csv: cannot be read"),
        (["a.csv", "."], "rank", "no submission.csv yet"),
        (["a.csv", "nan.csv"], "rank", r"nan.csv: cannot be combined.*line 3, '7,nan,1'"),
    ],
)
def test_what_makes_no_ensemble(tmp_path, monkeypatch, members, by, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_bytes(GOOD)
    (tmp_path / "nan.csv").write_bytes(GOOD.replace(b"0.5", b"nan"))
    with pytest.raises(InputError, match=message):
        combine(members, NUMBERS, by)
