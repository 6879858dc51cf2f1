"""The folder of a run: earlier runs stay whole, wherever a kill strikes."""

import errno
import shutil
from pathlib import Path

import pytest
import torch

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training import checkpoints, run_folder


class Killed(BaseException):
    pass


@pytest.fixture
def folder(tmp_path):
    """A folder with an earlier run, as its files' names say, and a file of the user's."""
    folder = tmp_path / "run"
    (folder / "models").mkdir(parents=True)
    for name in (*run_folder.FILES, run_folder.LOG, "notes.txt"):
        if name == run_folder.REPORT:
            (folder / name).mkdir()
            (folder / name / "index.html").write_text("old")
        elif name != "models":
            (folder / name).write_text(f"old {name}")
    (folder / "models" / "epoch_0001.ckpt").write_text("old epoch")
    return folder


def contents(folder):
    files = {
        p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*.*") if p.is_file()
    }
    return {
        name: text for name, text in files.items() if not name.startswith((".lock", "previous/"))
    }


def start_another(folder):
    """What a new training does up to its first checkpoint."""
    run_folder.recover(folder)
    (folder.parent / "fitted.bin").write_text("new text model")
    run_folder.stage(folder, folder.parent / "fitted.bin", checkpoints.TEXT_MODEL)
    moved = run_folder.take_over(folder, goes_on=False)
    (folder / checkpoints.CONFIG).write_text("new config")
    return moved


def test_an_earlier_run_moves_whole_and_a_third_one_too(folder):
    before = contents(folder)
    first = start_another(folder)
    assert contents(first) == {n: t for n, t in before.items() if n != "notes.txt"}
    assert contents(folder) == {
        "text_model.bin": "new text model",
        "config.yaml": "new config",
        "train.log": "old train.log",
        "notes.txt": "old notes.txt",
        ".moving": contents(folder)[".moving"],
    }
    (folder / checkpoints.CURRENT).write_text("new checkpoint")
    run_folder.commit(folder)
    second = start_another(folder)
    assert first != second and (second / checkpoints.TEXT_MODEL).read_text() == "new text model"
    assert (first / checkpoints.TEXT_MODEL).read_text() == "old text_model.bin"


def test_nothing_moves_before_there_is_something_to_save(folder):
    before = contents(folder)
    run_folder.recover(folder)
    run_folder.stage(folder, folder / "notes.txt", checkpoints.TEXT_MODEL)
    assert run_folder.staged(folder, checkpoints.TEXT_MODEL).read_text() == "old notes.txt"
    run_folder.recover(folder)  # the next start
    assert contents(folder) == before and not (folder / "previous").exists()


@pytest.mark.parametrize("kind", ["rename", "replace", "copyfile"])
def test_a_take_over_that_is_killed_is_undone(folder, monkeypatch, kind):
    before, times = contents(folder), 0
    owner = shutil if kind == "copyfile" else Path
    real = getattr(owner, kind)
    for last in range(100):
        count = 0

        def die(*given, last=last, **named):
            nonlocal count
            count += 1
            if count > last:
                raise Killed
            return real(*given, **named)

        monkeypatch.setattr(owner, kind, die)
        try:
            start_another(folder)
            break
        except Killed:
            times += 1
        finally:
            monkeypatch.undo()
        run_folder.recover(folder)
        assert contents(folder) == before
        assert not list((folder / "previous").glob("*"))
    assert times >= {"rename": 9, "replace": 3, "copyfile": 2}[kind]
    held = run_folder.lock(folder)
    run_folder.recover_if_free(folder)  # it is not
    assert contents(folder) != before
    held.release()
    run_folder.recover_if_free(folder)  # killed before its first checkpoint was there
    assert contents(folder) == before
    start_another(folder)
    (folder / checkpoints.BEST).write_text("new best")
    run_folder.recover(folder)  # killed after it
    assert (folder / checkpoints.BEST).read_text() == "new best"
    assert len(list((folder / "previous").iterdir())) == 1


def test_a_resumed_run_sets_aside_only_what_was_made_from_it(folder):
    before = contents(folder)
    moved = run_folder.take_over(folder, goes_on=True)
    run_folder.commit(folder)
    derived = {n: t for n, t in before.items() if n.startswith(("results", "submission", "report"))}
    assert len(derived) == 3 and contents(moved) == derived
    assert contents(folder) == {n: t for n, t in before.items() if n not in derived}


def test_two_trainings_do_not_share_a_folder(tmp_path):
    held = run_folder.lock(tmp_path / "run")
    with pytest.raises(InputError, match=r"env.save_dir: another training is running in .*run\."):
        run_folder.lock(tmp_path / "run")
    held.release()
    run_folder.lock(tmp_path / "run").release()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"env.save_dir: .* cannot be written"):
        run_folder.lock(tmp_path / "file" / "run")


def test_a_checkpoint_that_cannot_be_read_just_now_is_not_taken_for_torn(tmp_path, monkeypatch):
    path = tmp_path / checkpoints.CURRENT
    checkpoints.save_checkpoint({"model": {}}, path)

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(InputError, match="cannot be read just now") as found:
        checkpoints.load_checkpoint(path)
    assert not isinstance(found.value, checkpoints.TornCheckpoint)
