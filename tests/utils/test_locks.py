"""Waiting for another process: it is said, and it ends."""

import logging

import pytest
from filelock import FileLock

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.utils import locks


def test_a_wait_ends_with_a_message_that_names_the_lock(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(locks, "LONGEST_WAIT", 0.1)
    caplog.set_level(logging.INFO, "mmf_hm_concat")
    path = tmp_path / "lock"
    with FileLock(path), pytest.raises(InputError) as error, locks.waiting_lock(path, "does it"):
        pytest.fail("two have the lock")
    assert f"{path}: another process that does it" in str(error.value)
    assert "waiting for another process that does it" in caplog.text


def test_a_lock_is_free_after_an_error(tmp_path):
    with pytest.raises(ValueError), locks.waiting_lock(tmp_path / "lock", "does it"):
        raise ValueError
    with locks.waiting_lock(tmp_path / "lock", "does it"):
        pass
