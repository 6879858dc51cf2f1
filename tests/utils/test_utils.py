"""Locks that are waited for, files that may never end, and the wording of messages."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mmf_hm_concat.config.check import unknown
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.utils import files, locks
from mmf_hm_concat.utils.files import atomic_write, kind_if_not_regular, open_regular, sha256
from mmf_hm_concat.utils.locks import locked
from mmf_hm_concat.utils.text import counted, first_and_more

HOLD = """
import sys
from pathlib import Path
from mmf_hm_concat.utils.locks import locked
with locked(Path(sys.argv[1]), "holds"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_free_lock_is_taken_without_a_word_and_freed_when_the_block_raises(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(2):
        with pytest.raises(KeyError), locked(tmp_path / "lock", "works"):
            raise KeyError
    assert caplog.text == ""


def test_a_lock_that_is_held_too_long_is_an_error_that_names_it(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(locks, "MAX_WAIT_MINUTES", 0.1 / 60)
    with (
        locked(tmp_path / "lock", "unpacks a.zip"),
        pytest.raises(InputError, match=r"waited .* minutes .* that unpacks a\.zip\.") as caught,
        locked(tmp_path / "lock", "unpacks a.zip"),
    ):
        pass
    assert str(caught.value).startswith(str(tmp_path / "lock"))
    (record,) = caplog.records
    assert record.getMessage() == (
        f"waiting for another process that unpacks a.zip ({tmp_path / 'lock'})"
    )


def test_a_lock_is_waited_for_until_its_holder_ends_or_dies(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    timer = threading.Timer(0.3, holder.kill)
    timer.start()
    with locked(tmp_path / "lock", "holds"):
        assert holder.poll() is not None or holder.wait(5) < 0
    holder.communicate()
    assert "waiting for another process that holds" in caplog.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_what_is_no_regular_file_is_refused_at_once_and_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "link").symlink_to("pipe")
    kinds = {
        tmp_path: "a folder",
        tmp_path / "pipe": "a named pipe",
        tmp_path / "link": "a named pipe",
        tmp_path / "circle": "a link in a circle",
        tmp_path / "broken": "a link to nothing",
        Path("/dev/zero"): "a device",
    }
    for path, kind in kinds.items():
        assert kind_if_not_regular(path) == kind
        for read in (open_regular, sha256):
            with pytest.raises(OSError, match=kind):
                read(path)
    (tmp_path / "file").write_bytes(b"content")
    for path in (tmp_path / "file", tmp_path / "nowhere"):
        assert kind_if_not_regular(path) is None
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "nowhere")
    with open_regular(tmp_path / "file") as file:
        assert file.read() == b"content"


def test_what_a_killed_process_left_is_removed_when_the_file_is_written_again(tmp_path):
    left = [tmp_path / f".a[1].csv.{number:08}.tmp" for number in range(2)]
    others = [tmp_path / ".b.csv.00000000.tmp", tmp_path / ".a1.csv.00000000.tmp"]
    for path in (*left, *others):
        path.touch()
        os.utime(path, (0, 0))
    os.utime(left[1])  # which another process may still be writing
    with atomic_write(tmp_path / "a[1].csv") as temporary:
        temporary.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a[1].csv", left[1], *others])


def test_why_nothing_can_be_written_into_a_folder(tmp_path, monkeypatch):
    assert files.why_unwritable(tmp_path / "yet" / "to be made") is None
    (tmp_path / "file").touch()
    assert files.why_unwritable(tmp_path / "file" / "x") == "Not a directory"
    assert not list(tmp_path.glob("yet*"))


def test_the_first_items_and_how_many_more():
    assert first_and_more([], 2) == []
    assert first_and_more([1, 2], 2) == ["1", "2"]
    assert first_and_more(range(1234), 1) == ["0", "and 1,233 more"]
    assert [counted(number, "meme") for number in (0, 1, 2000)] == [
        "0 memes",
        "1 meme",
        "2,000 memes",
    ]


def test_an_error_is_never_longer_than_a_person_reads():
    name = "x" * 10**6
    for message in (
        f"best.ckpt: {name}. Do this.",
        f"{name}\n{name} Do this.",
        unknown("a", name, "b"),
    ):
        assert len(str(InputError(message))) < 10_000
    assert str(InputError(f"{name}: it is. Do this: {name}.")).count("x: it is. Do this: x") == 1
    assert len(str(InputError("x " * 10**6))) < 10_000


@pytest.mark.parametrize(
    "raw, shown",
    [
        ("\x1b[2Ja\rb\x9b", r"\x1b[2Ja\rb\x9b"),
        ("gnp\u202e.exe", r"gnp\u202e.exe"),
        ("\udcff", r"\udcff"),
        ("zwei\nZeilen, größer \U0001f600 {'a'}", "zwei\nZeilen, größer \U0001f600 {'a'}"),
    ],
)
def test_an_error_does_nothing_to_a_terminal(raw, shown):
    assert str(InputError(raw)) == shown
    str(InputError(raw)).encode()
