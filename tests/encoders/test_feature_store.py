"""Features on disk: read back as they were added, or not at all."""

import multiprocessing
import os
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmf_hm_concat.encoders import feature_store
from mmf_hm_concat.encoders.feature_store import FeatureStore
from mmf_hm_concat.errors import InputError

IDENTITY = {"encoder": "timm resnet18 0123"}
FEATURES = {f"k{n}": np.full((2, 3), n, np.float32) for n in range(5)}


@pytest.fixture
def store(tmp_path):
    store = FeatureStore(tmp_path, IDENTITY)
    store.add(FEATURES)
    return store


def same(found, wanted):
    return found.keys() == wanted.keys() and all(np.array_equal(found[k], wanted[k]) for k in found)


def test_another_process_reads_what_one_has_added(store, tmp_path):
    other = FeatureStore(tmp_path, IDENTITY)
    assert same(other.read([*FEATURES, "unknown"]), FEATURES)
    store.add({"late": np.float32([1, 2])})  # of another shape, while the other has the index
    assert same(other.read(["late"]), {"late": np.float32([1, 2])})


def test_another_identity_has_other_features(store, tmp_path):
    assert FeatureStore(tmp_path, {**IDENTITY, "precision": "bf16"}).read(FEATURES) == {}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["features.bin", "index.txt"]), st.integers(0, 10**6), st.integers(0, 255))
def test_damage_costs_features_but_never_gives_others(tmp_path_factory, name, place, byte):
    store = FeatureStore(tmp_path_factory.mktemp("cache"), IDENTITY)
    store.add(FEATURES)
    file = store.folder / name
    content = bytearray(file.read_bytes())
    cut = place % len(content)
    content[cut] ^= byte
    file.write_bytes(content[: cut + 1] if place % 2 else content)
    fresh = FeatureStore(store.folder.parent, IDENTITY)
    found = fresh.read(FEATURES)
    assert same(found, {key: FEATURES[key] for key in found})
    fresh.add({key: value for key, value in FEATURES.items() if key not in found})
    assert same(FeatureStore(store.folder.parent, IDENTITY).read(FEATURES), FEATURES)


def test_a_removed_folder_is_made_again(store):
    for file in store.folder.iterdir():
        file.unlink()
    store.folder.rmdir()
    assert store.read(FEATURES) == {}
    store.add(FEATURES)
    assert same(store.read(FEATURES), FEATURES)


def _add_slowly(folder, ready):
    store = FeatureStore(folder, IDENTITY)
    with store.claim(["a", "b"]) as found:
        assert found == {}
        ready.set()
        store.add({"a": np.float32([1])})
        threading.Event().wait(0.5)
        store.add({"b": np.float32([2])})
        threading.Event().wait(2)  # adds nothing more: the others need not wait for it


def test_who_waits_takes_what_the_other_adds(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=_add_slowly, args=(tmp_path, ready))
    other.start()
    assert ready.wait(30)
    with FeatureStore(tmp_path, IDENTITY).claim(["a", "b"]) as found:
        assert same(found, {"a": np.float32([1]), "b": np.float32([2])})
        assert other.is_alive()
    other.join()
    assert other.exitcode == 0


def test_a_wait_ends_with_a_message_when_the_other_adds_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_store, "MAX_WAIT_MINUTES", 0.005)
    one, two = FeatureStore(tmp_path, IDENTITY), FeatureStore(tmp_path, IDENTITY)
    with one.claim(["a"]), pytest.raises(InputError, match="has added none for"), two.claim(["a"]):
        pass
    with two.claim(["a"]) as found:
        assert found == {}


def test_features_that_do_not_fit_are_told_before_they_are_computed(store):
    with pytest.raises(InputError, match=r"no room for 1,000 features: .* MB needed"):
        store.check_space(1000, (10**9,))


def test_a_link_in_the_folder_is_refused(store, tmp_path):
    (tmp_path / "precious").write_text("kept")
    store.values.unlink()
    store.values.symlink_to(tmp_path / "precious")
    for work in (lambda: store.add(FEATURES), lambda: store.read(FEATURES)):
        with pytest.raises(InputError, match="is a link"):
            work()
    assert (tmp_path / "precious").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs /proc/sys that even root cannot write")
def test_a_folder_that_cannot_be_written_is_told():
    with pytest.raises(InputError, match="features cannot be kept there"):
        FeatureStore(feature_store.Path("/proc/sys"), IDENTITY).add(FEATURES)
