"""Every shape in which people have the data is found, unpacked once, or clearly asked for."""

import io
import multiprocessing
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from mmf_hm_concat.data import layout as layout_module
from mmf_hm_concat.data.layout import DEFAULT_SPLITS, find_layout
from mmf_hm_concat.errors import InputError

PHASE_1 = ("train", "dev", "test")
PHASE_2 = ("train", "dev_seen", "dev_unseen", "test_seen", "test_unseen")


def write_annotations(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.jsonl").write_text("{}\n")


def write_images(folder):
    (folder / "img").mkdir(parents=True)
    (folder / "img" / "00001.png").write_bytes(b"one")


def write_image_tar(path, prefix="img/", members=("00001.png",)):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name in members:
            info = tarfile.TarInfo(prefix + name)
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))


@pytest.fixture
def find(tmp_path):
    def find(data_dir=None, splits=DEFAULT_SPLITS, **more):
        return find_layout(
            data_dir or tmp_path / "data", splits, cache_dir=tmp_path / "cache", **more
        )

    return find


def names(layout):
    files = layout.annotations.items()
    return {split: [file.stem for file in of_split] for split, of_split in files}


OF_PHASE_1 = {"train": ["train"], "val": ["dev"], "test": ["test"]}
OF_PHASE_2 = {"train": ["train"], "val": ["dev_seen", "dev_unseen"], "test": ["test_unseen"]}


@pytest.mark.parametrize("phase, found", [(PHASE_1, OF_PHASE_1), (PHASE_2, OF_PHASE_2)])
def test_a_folder_of_each_phase(tmp_path, find, phase, found):
    write_annotations(tmp_path / "data", phase)
    write_images(tmp_path / "data")
    layout = find()
    assert names(layout) == found
    assert all(file.is_file() for files in layout.annotations.values() for file in files)
    assert layout.images == tmp_path / "data"
    assert not (tmp_path / "cache").exists()  # nothing is copied that can be read


@pytest.mark.parametrize("inner", ["data", "hateful_memes", "anything"])
def test_one_folder_deep(tmp_path, find, inner):
    write_annotations(tmp_path / "data" / inner, PHASE_2)
    write_annotations(tmp_path / "data" / "__MACOSX", PHASE_2)
    write_images(tmp_path / "data" / inner)
    assert names(find()) == OF_PHASE_2
    assert find().images == tmp_path / "data" / inner
    (tmp_path / "data" / inner / "img").rename(tmp_path / "data" / "img")
    assert find().images == tmp_path / "data"


CONVERTED = "datasets/hateful_memes/defaults"


@pytest.mark.parametrize("given", [CONVERTED, "datasets/hateful_memes", "datasets", "."])
@pytest.mark.parametrize("archived", [False, True])
def test_what_mmf_converted(tmp_path, find, given, archived):
    defaults = tmp_path / "data" / CONVERTED
    write_annotations(defaults / "annotations", PHASE_1)
    if archived:
        write_image_tar(defaults / "images" / "img.tar.gz")
    else:
        write_images(defaults / "images")
    layout = find(tmp_path / "data" / given)
    assert names(layout) == OF_PHASE_1
    assert (layout.images / "img" / "00001.png").is_file()
    assert archived or layout.images == defaults / "images"


@pytest.mark.parametrize("archive", ["img.tar.gz", "images.tar.gz", "images/img.tar.gz", "img.tgz"])
@pytest.mark.parametrize("prefix", ["img/", "./img/", "data/img/"])
def test_images_in_an_archive(tmp_path, find, archive, prefix):
    write_annotations(tmp_path / "data", PHASE_1)
    (tmp_path / "data" / "img").mkdir()  # empty: it does not hide the archive
    write_image_tar(tmp_path / "data" / archive, prefix)
    images = find().images
    assert (images / "img" / "00001.png").read_bytes() == b"00001.png"
    assert images.is_relative_to(tmp_path / "cache")


@pytest.mark.parametrize("inner", ["", "data", "hateful_memes"])
@pytest.mark.parametrize("archived", [False, True])
def test_the_downloaded_zip(tmp_path, find, inner, archived):
    write_annotations(tmp_path / "made" / inner, PHASE_2)
    if archived:
        write_image_tar(tmp_path / "made" / inner / "img.tar.gz")
    else:
        write_images(tmp_path / "made" / inner)
    layout = find(shutil.make_archive(tmp_path / "hm", "zip", tmp_path / "made"))
    assert names(layout) == OF_PHASE_2
    assert (layout.images / "img" / "00001.png").is_file()


def test_an_archive_is_unpacked_once_until_it_changes(tmp_path, find, monkeypatch):
    unpacked = []
    extract = layout_module.extract

    def counted(archive, *args, **more):
        unpacked.append(archive)
        return extract(archive, *args, **more)

    monkeypatch.setattr(layout_module, "extract", counted)
    write_annotations(tmp_path / "data", PHASE_1)
    archive = tmp_path / "data" / "img.tar.gz"
    write_image_tar(archive)
    assert find().images == find().images
    assert len(unpacked) == 1
    write_image_tar(archive, members=("00001.png", "00002.png"))
    assert len(list((find().images / "img").iterdir())) == 2
    before = archive.stat()
    archive.write_bytes(archive.read_bytes())  # another one of the same size ...
    os.utime(archive, ns=(before.st_atime_ns, before.st_mtime_ns))  # ... and time
    find()
    assert len(unpacked) == 3


def test_a_half_extraction_never_counts(tmp_path, find, monkeypatch):
    """Killed in the middle, with no chance to clean up: the next start begins anew."""
    write_annotations(tmp_path / "data", PHASE_1)
    write_image_tar(tmp_path / "data" / "img.tar.gz")

    def killed(archive, into, **more):
        (into / "img").mkdir()
        (into / "img" / "half.png").write_bytes(b"")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(layout_module, "extract", killed)
        patch.setattr(shutil, "rmtree", lambda *args, **more: None)
        with pytest.raises(KeyboardInterrupt):
            find()
    assert list((tmp_path / "cache").rglob("half.png"))
    assert [path.name for path in (find().images / "img").iterdir()] == ["00001.png"]


def test_a_bad_archive_leaves_nothing_behind(tmp_path, find):
    write_annotations(tmp_path / "data", PHASE_1)
    write_image_tar(tmp_path / "data" / "img.tar.gz", members=("a.png", "../../b.png"))
    with pytest.raises(InputError, match=r"img\.tar\.gz.*'img/\.\./\.\./b\.png' refused"):
        find()
    assert not list((tmp_path / "cache").rglob("*.png"))
    assert not list((tmp_path / "cache").rglob("*.part"))


def open_in_process(data_dir, cache_dir, start, results):
    start.wait()
    layout = find_layout(data_dir, DEFAULT_SPLITS, cache_dir=cache_dir)
    results.put((str(layout.images), len(list((layout.images / "img").iterdir()))))


def test_several_processes_at_once(tmp_path):
    write_annotations(tmp_path / "data", PHASE_1)
    members = tuple(f"{number:05}.png" for number in range(300))
    write_image_tar(tmp_path / "data" / "img.tar.gz", members=members)
    context = multiprocessing.get_context("spawn")
    start, results = context.Event(), context.Queue()
    where = (tmp_path / "data", tmp_path / "cache", start, results)
    processes = [context.Process(target=open_in_process, args=where) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    found = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert [count for _, count in found] == [300]


def test_the_password_comes_from_the_argument_or_the_environment(tmp_path, find, monkeypatch):
    given = []

    def noted(archive, into, *, password):
        given.append(password)
        write_annotations(into, PHASE_1)

    monkeypatch.setattr(layout_module, "extract", noted)
    monkeypatch.setenv("HM_ZIP_PASSWORD", "from the environment")
    for name in ("a", "b"):
        (tmp_path / f"{name}.zip").write_bytes(b"PK")
    find(tmp_path / "a.zip")
    find(tmp_path / "b.zip", password="from the argument")
    assert given == ["from the environment", "from the argument"]


@pytest.mark.parametrize(
    "spec, found",
    [
        ("dev_unseen", ["dev_unseen"]),
        ("dev_unseen + dev_seen", ["dev_unseen", "dev_seen"]),
        ("dev_seen.jsonl", ["dev_seen"]),
        ("nothing or dev_seen+nothing or test_seen", ["test_seen"]),
        ("dev_seen+dev_seen", ["dev_seen"]),
        (None, None),
        ("nothing", None),
    ],
)
def test_alternatives_and_merges(tmp_path, find, spec, found):
    write_annotations(tmp_path / "data", PHASE_2)
    write_images(tmp_path / "data")
    layout = find(splits={"train": "train", "val": spec}, needed=("train",))
    assert names(layout).get("val") == found


def test_own_files_by_path(tmp_path, find, monkeypatch):
    write_annotations(tmp_path / "data", PHASE_1)
    write_annotations(tmp_path / "own + other or such", ["mine"])
    write_annotations(tmp_path / "here", ["yours"])
    write_images(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own + other or such" / "mine.jsonl"
    splits = {"train": str(own), "val": "here/yours.jsonl", "test": "dev"}
    layout = find(splits=splits)
    assert layout.annotations["train"] == (own,)
    assert layout.annotations["val"] == (Path("here/yours.jsonl"),)
    assert layout.images == tmp_path / "data"


def test_missing_splits_are_all_named_with_every_alternative(tmp_path, find):
    write_annotations(tmp_path / "data", ["train"])
    with pytest.raises(InputError, match="give the folder"):
        find(tmp_path / "data" / "train.jsonl")
    with pytest.raises(InputError) as caught:
        find()
    message = str(caught.value)
    words = ["val", "test", "dev_seen.jsonl + dev_unseen.jsonl", "or dev.jsonl", str(tmp_path)]
    words += ["test_unseen.jsonl, or test_seen.jsonl, or test.jsonl"]
    words += ["There are train.jsonl."]
    assert [word for word in words if word not in message] == []
    assert "train:" not in message
    assert names(find(needed=["train"])) == {"train": ["train"]}


def test_no_split_at_all_is_an_error_even_if_none_is_needed(tmp_path, find):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hm.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"train\.jsonl(.|\n)*hm\.zip"):
        find(needed=())
    with pytest.raises(InputError, match="no files"):
        find(splits={}, needed=())


def test_two_nested_layouts_are_not_chosen_between(tmp_path, find):
    for phase in ("phase1", "phase2"):
        write_annotations(tmp_path / "data" / phase, PHASE_1)
    with pytest.raises(InputError, match=r"phase1.*phase2"):
        find()


@pytest.mark.parametrize(
    "data_dir, why",
    [("nowhere", "does not exist"), ("", "not set"), ("x" * 5000, "cannot be read"), (None, "set")],
)
def test_no_data(tmp_path, data_dir, why):
    given = data_dir and tmp_path / data_dir
    with pytest.raises(InputError, match=why):
        find_layout(given, DEFAULT_SPLITS, cache_dir=tmp_path)


@pytest.mark.parametrize("spec", ["train+", 5, ["train"], "dev or +"])
def test_a_spec_that_means_nothing(tmp_path, find, spec):
    write_annotations(tmp_path / "data", PHASE_1)
    with pytest.raises(InputError, match=r"splits\.val"):
        find(splits={**DEFAULT_SPLITS, "val": spec})


def test_images_that_cannot_be_unpacked(tmp_path, find):
    write_annotations(tmp_path / "data", PHASE_1)
    write_image_tar(tmp_path / "data" / "img.tar.gz", prefix="")
    with pytest.raises(InputError, match=r"img\.tar\.gz has no folder img/"):
        find()
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError, match=r"cache folder .*cache"):
        find()


def test_missing_sample_and_mistyped_split_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"Make the sample first: hm_concat sample data/sample$"):
        find_layout("data/sample", DEFAULT_SPLITS, cache_dir=tmp_path)
    (tmp_path / "own").mkdir()
    for name in ("train", "validation"):
        (tmp_path / "own" / f"{name}.jsonl").touch()
    with pytest.raises(InputError) as error:
        find_layout("own", DEFAULT_SPLITS, cache_dir=tmp_path, needed=("train", "val"))
    message = str(error.value)
    assert "There are train.jsonl, validation.jsonl." in message and "licen" not in message
    assert "Name the file of val with dataset_config.hm_competition.splits.val=NAME." in message
