"""Finding the annotation files and the images of a data set, in whatever layout it was got."""

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmf_hm_concat.data.archives import extract
from mmf_hm_concat.errors import InputError, printable
from mmf_hm_concat.utils.files import atomic_write, identity, kind_if_not_regular
from mmf_hm_concat.utils.locks import locked
from mmf_hm_concat.utils.private import ELSEWHERE, check_private, make_private
from mmf_hm_concat.utils.text import first_and_more

logger = logging.getLogger("mmf_hm_concat")

DEFAULT_SPLITS: Mapping[str, str] = {
    "train": "train",
    "val": "dev_seen+dev_unseen or dev_seen or dev_unseen or dev",
    "test": "test_unseen or test_seen or test",
}
_ANNOTATION_FOLDERS = (
    ".",
    "annotations",  # what mmf_convert_hm made; the longer ones below lead there
    "defaults/annotations",
    "hateful_memes/defaults/annotations",
    "datasets/hateful_memes/defaults/annotations",
)
_IMAGE_ARCHIVES = tuple(
    f"{stem}{ending}"
    for stem in ("img", "images")
    for ending in (".tar.gz", ".tgz", ".tar", ".zip")
)
_HELP = (
    "The Hateful Memes data set is licensed and does not come with this package: get it from "
    "https://hatefulmemeschallenge.com (also competition 64 of DrivenData) and give the folder "
    "or the .zip as dataset_config.hm_competition.data_dir. "
    "Without it: `hm_concat sample data/sample`, then "
    "`mmf_run config=projects/concat/sample.yaml run_type=train_val`."
)
UNPACKED = "unpacked"  # the folder of the cache with the content of archives
SAMPLE_DIR = Path("data/sample")  # data_dir in projects/concat/sample.yaml


@dataclass(frozen=True)
class Layout:
    """Where the dataset files lie.

    Attributes:
        annotations: split -> the jsonl files that make it up, in order. Splits whose files do
            not exist are absent.
        images: the folder that an `img` field ("img/01236.png") is relative to.
    """

    annotations: dict[str, tuple[Path, ...]]
    images: Path


def find_layout(
    data_dir: str | Path,
    splits: Mapping[str, str],
    *,
    cache_dir: str | Path,
    password: str | None = None,
    needed: Sequence[str] = ("train", "val", "test"),
) -> Layout:
    """Find the dataset files; unpack into ``cache_dir`` what can only be read unpacked.

    Args:
        data_dir: a folder with the jsonl files of phase 1 or 2 and `img/` or `img.tar.gz`; a
            folder with one such folder in it; the downloaded .zip; the folder that
            `mmf_convert_hm` filled, or MMF's data root above it.
        splits: for each split the names of its jsonl files: `+` merges several, ` or ` separates
            alternatives, of which the first that is there in full is taken. A name without
            ".jsonl" is looked for beside the other annotations; one with ".jsonl" may also be a
            path, absolute or relative to ``data_dir`` or to the current folder. None or "" is no
            split.
        cache_dir: gets one folder for each archive unpacked, so that it is unpacked once. An
            archive with another path, size or time of change is another archive.
        password: of the .zip; by default that in the environment variable HM_ZIP_PASSWORD.
        needed: splits that must be there. At least one split must be, whatever this says.

    Raises:
        InputError: nothing there, a needed split is missing, two nested folders could be meant,
            or an archive cannot be unpacked.
    """
    if not data_dir:
        raise InputError(f"data_dir is not set. {_HELP}")
    password = password or os.environ.get("HM_ZIP_PASSWORD")
    given = Path(data_dir).expanduser()
    cache = Path(cache_dir).expanduser()
    try:
        if given.is_file():
            if given.suffix == ".jsonl":
                raise InputError(f"data_dir {given} is a file: give the folder it lies in.")
            root = _unpacked(given, cache, password)
        elif given.is_dir():
            root = given
        else:
            lines = [f"data_dir {given} does not exist (as seen from {Path.cwd()})."]
            if given == SAMPLE_DIR:
                lines.append(f"Make the sample first: hm_concat sample {given}")
                raise InputError("\n".join(lines))
            lines += _looked_for({name: _alternatives(name, splits[name]) for name in splits})
            raise InputError("\n".join([*lines, "  and img/ or img.tar.gz beside them.", _HELP]))
        return _open_folder(root, given, splits, cache, password, needed)
    except OSError as error:
        raise InputError(f"data_dir {given} cannot be read: {error}.") from error


def _open_folder(
    root: Path,
    given: Path,
    splits: Mapping[str, str],
    cache: Path,
    password: str | None,
    needed: Sequence[str],
) -> Layout:
    alternatives = {split: list(_alternatives(split, spec)) for split, spec in splits.items()}
    names = {name for options in alternatives.values() for names in options for name in names}
    folder, looked_in = _annotation_folder(root, names)
    annotations = {}
    for split, options in alternatives.items():
        found = ([_annotation_file(name, folder, root) for name in names] for names in options)
        whole = next((files for files in found if all(files)), None)
        if whole is not None:
            annotations[split] = tuple(dict.fromkeys(filter(None, whole)))
            shown = " + ".join(str(file) for file in annotations[split])
            logger.info("%s: %s", split, printable(shown))
    missing = [split for split in (needed if annotations else splits) if split not in annotations]
    if missing or not annotations:
        lines = [f"data_dir {given}: no files for {', '.join(missing) or 'any split'}."]
        lines += _looked_for({split: alternatives.get(split, []) for split in missing})
        lines.append(f"  in {_shortened(looked_in)}")
        zips = sorted(root.glob("*.zip"))
        if zips and not annotations:
            lines.append(f"  There is {zips[0]}: give it as data_dir, or unpack it.")
        there = {file.name for place in looked_in for file in place.glob("*.jsonl")}
        if there:  # a mistyped split, or memes of one's own: the licence is no help
            lines.append(f"  There are {', '.join(first_and_more(sorted(there), 10))}.")
            lines += [
                f"Name the file of {split} with dataset_config.hm_competition.splits.{split}=NAME."
                for split in missing
            ]
            raise InputError("\n".join(lines))
        raise InputError("\n".join([*lines, _HELP]))
    return Layout(annotations, _image_folder(folder, root, cache, password))


def _looked_for(alternatives: Mapping[str, Iterable[list[str]]]) -> list[str]:
    """For each split a line of a message: which files would make it up."""
    lines = []
    for split, options in alternatives.items():
        files = [" + ".join(map(_file_name, names)) for names in options]
        lines.append(f"  {split}: looked for {', or '.join(files) or 'nothing: not set'}")
    return lines


def _alternatives(split: str, spec: str | None) -> Iterator[list[str]]:
    """The file names of each alternative of a split: "a+b or c" -> ["a", "b"], ["c"]."""
    if spec is None or spec == "":
        return
    if not isinstance(spec, str):
        raise InputError(f"splits.{split}: {spec!r} is not text such as 'dev_seen+dev_unseen'.")
    if spec.endswith(".jsonl") and Path(spec).expanduser().is_file():
        yield [spec]  # a path may have a plus or " or " in it
        return
    for option in re.split(r"\s+or\s+", spec.strip()):
        names = [name.strip() for name in option.split("+")]
        if not all(names):
            raise InputError(f"splits.{split}: {spec!r} has an empty name in it.")
        yield names


def _file_name(name: str) -> str:
    return name if name.endswith(".jsonl") else f"{name}.jsonl"


def _annotation_file(name: str, folder: Path, root: Path) -> Path | None:
    # Only what is written as a file, with its ending, may lie elsewhere.
    places = (folder, root, Path()) if name.endswith(".jsonl") else (folder,)
    for path in (place / Path(_file_name(name)).expanduser() for place in places):
        if path.is_file():
            return path
        if kind := kind_if_not_regular(path):
            raise InputError(f"{path} is {kind}, not a file with memes: put the file there.")
    return None


def _annotation_folder(root: Path, names: set[str]) -> tuple[Path, list[Path]]:
    """The folder that has any of the files (``root`` if none has), and all that were looked at."""
    plain = sorted(_file_name(name) for name in names if Path(name).name == name)

    def has_any(folder: Path) -> bool:
        return any((folder / name).is_file() for name in plain)

    usual = [root / folder for folder in _ANNOTATION_FOLDERS]
    nested = [path for sub in _subfolders(root) for path in (sub, sub / "annotations")]
    for folder in usual:
        if has_any(folder):
            return folder, [folder]
    hits = [folder for folder in nested if has_any(folder)]
    if len(hits) > 1:
        raise InputError(
            f"data_dir {root}: several folders in it have annotations: {_shortened(hits)}. "
            "Give one of them as data_dir."
        )
    looked_in = list(dict.fromkeys([*usual, *nested]))
    return (hits[0], hits) if hits else (root, looked_in)


def _image_folder(folder: Path, root: Path, cache: Path, password: str | None) -> Path:
    """The folder with `img` in it, unpacked if need be; else where the images ought to be."""
    beside = [folder, folder / "images"]
    if folder.name == "annotations":
        beside = [folder.parent / "images", folder.parent, *beside]
    places = [path for path in (*beside, root, root / "images") if path.is_dir()]
    for place in places:
        if (place / "img").is_dir() and any((place / "img").iterdir()):
            return place
    for archive in (place / name for place in places for name in _IMAGE_ARCHIVES):
        if archive.is_file():
            unpacked = _unpacked(archive, cache, password)
            for place in (unpacked, *_subfolders(unpacked)):
                if (place / "img").is_dir():
                    return place
            raise InputError(
                f"{archive} has no folder img/ in it: unpack it by hand, so that the images lie "
                f"in {archive.parent / 'img'}."
            )
    return places[0]  # somebody's own memes may keep their images in folders of any name


def unpacked_name(archive: Path) -> str:
    """What the folder with an archive's content is called; another one when it has changed."""
    key = f"{archive.resolve()}\0{identity(archive)}".encode("utf-8", "surrogateescape")
    return f"{archive.name.split('.')[0]}-{hashlib.sha256(key).hexdigest()[:16]}"


def _unpacked(archive: Path, cache: Path, password: str | None) -> Path:
    """The folder with an archive's content; unpacked by the first process that needs it."""
    name = unpacked_name(archive)
    done = cache / UNPACKED / name
    part, source = done.with_name(f"{name}.part"), done.with_name(f"{name}.source")
    try:
        make_private(cache)
        check_private(cache, done.parent.name)
        make_private(done.parent)
        check_private(done.parent, name, part.name, source.name, f"{name}.lock")
        with locked(done.with_name(f"{name}.lock"), f"unpacks {archive}"):
            if done.is_dir():  # the rename below is the only way it comes to be
                return done
            shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
            try:
                make_private(part)
                logger.info("unpacking %s into %s", printable(str(archive)), done)
                extract(archive, part, password=password)
                if hasattr(os, "sync"):  # the content must reach the disk before the new name does
                    os.sync()
                with atomic_write(source) as temporary:
                    temporary.write_text(str(archive.resolve()), "utf-8", "surrogateescape")
                part.rename(done)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise InputError(f"cache folder {cache} cannot be used: {error}. {ELSEWHERE}") from error
    return done


def _subfolders(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith((".", "__MACOSX"))
    )


def _shortened(paths: list[Path]) -> str:
    return ", ".join(first_and_more(paths, 10))
