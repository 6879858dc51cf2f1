"""What `hm_concat check-data DIR` does: say whether a data set can be used, and why not."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mmf_hm_concat.data.features_file import read_features, say_lacking
from mmf_hm_concat.data.layout import DEFAULT_SPLITS, Layout, find_layout
from mmf_hm_concat.data.table import LABELS, check_memes, check_splits
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.cache import why_unreadable
from mmf_hm_concat.utils.parallel import parallel_map
from mmf_hm_concat.utils.text import counted

# Files of the known layouts, which are checked also when no split is made of them.
KNOWN = ("train", "dev", "dev_seen", "dev_unseen", "test", "test_seen", "test_unseen")


@dataclass
class DataCheck:
    """What was found.

    Attributes:
        splits: by split, or by name of a file that no split is made of: `files`, and if they can
            be read the numbers of `memes`, `hateful`, `benign` and `unlabelled` ones.
        images: the folder with the images; None where no data was found.
        notes, warnings: what a person may want to know, and ought to.
        problems: what has to be mended before the data set can be used.
    """

    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: str | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """All of it for programs, and `can_be_used`."""
        return {**vars(self), "can_be_used": not self.problems}

    def __str__(self) -> str:
        lines = [_table(self.splits), f"images: {self.images}"] if self.splits else []
        lines += [f"info: {each}" for each in self.notes]
        lines += [f"warning: {each}" for each in self.warnings]
        lines += self.problems
        if self.splits:
            can = "cannot be used as it is" if self.problems else "can be used"
            lines.append(f"The data set {can}.")
        return "\n".join(lines)


def check_data(
    data_dir: str | Path,
    splits: Sequence[str] = (),
    *,
    cache_dir: str | Path,
    features: Sequence[Path] = (),
) -> DataCheck:
    """Read all memes and decode all images of a data set.

    Args:
        data_dir, cache_dir: as for `find_layout`.
        splits: check only these, which have to be there: train, val, test, or what stands for
            one in `dataset_config.hm_competition.splits`, as dev_seen. By default all files that
            are there are checked, and what training needs (`train` and `val`, memes of both
            classes in `train`) is a problem when it is missing; that test is missing, a warning.
        features: files of vectors for the memes (`features_file`): each has to be whole, and to
            have all memes of a split or none.
    """
    found = DataCheck()
    wanted = {name: DEFAULT_SPLITS.get(name, name) for name in splits} or DEFAULT_SPLITS
    try:
        layout = find_layout(data_dir, wanted, cache_dir=cache_dir, needed=splits)
        tables, errors, notes = check_splits(layout)
    except InputError as error:
        found.problems.append(str(error))
        return found
    files = dict(layout.annotations)
    if not splits:
        # Each for itself: dev_seen and dev_unseen, say, have memes in common by design.
        for name, file in other_files(layout).items():
            files[name] = (file,)
            try:
                required = not name.startswith("test")
                tables[name], more = check_memes([file], layout.images, split=name, labels=required)
                notes += more
            except InputError as error:
                errors.append(str(error))
    found.splits = {name: _counts(files[name], tables.get(name)) for name in files}
    found.images = str(layout.images)
    for split in wanted:
        if split not in files:
            what = f"{split}: no files for it ({wanted[split]})"
            if LABELS.get(split):
                found.problems.append(f"{what}. Training needs them.")
            else:
                found.warnings.append(f"{what}.")
    for level, note in notes:
        (found.notes if level == logging.INFO else found.warnings).append(note)
    if "train" in tables and tables["train"]["label"].nunique() < 2:
        label = ("benign", "hateful")[tables["train"]["label"].iloc[0]]
        found.problems.append(f"train: all memes are {label}. Training needs both classes.")
    found.problems += dict.fromkeys(errors)
    found.problems += _broken_images(tables)
    for file in features:
        _check_features(file, tables, found)
    return found


def other_files(layout: Layout) -> dict[str, Path]:
    """The annotation files that no split is made of, by their name."""
    used = {file for files in layout.annotations.values() for file in files}
    folders = dict.fromkeys(file.parent for file in used)
    files = [folder / f"{name}.jsonl" for name in KNOWN for folder in folders]
    return {file.name: file for file in files if file.is_file() and file not in used}


def _check_features(path: Path, tables: Mapping[str, pd.DataFrame], found: DataCheck) -> None:
    try:
        file = read_features(path, ())
    except InputError as error:
        found.problems.append(str(error))
        return
    ids = {number for table in tables.values() for number in table["number"]}
    of_none = sum(number not in ids for number in file.ids_of_file.tolist())
    vectors = f"{path}: {counted(len(file.ids_of_file), 'vector')}"
    found.notes.append(f"{vectors} of {file.width:,} numbers")
    if of_none:
        let_pass = f"{path}: {counted(of_none, 'vector')} of no meme here, which is let pass"
        found.notes.append(let_pass)
    for split, table in tables.items():
        lacking = file.lacking(table["number"])
        if len(lacking) == len(table):
            found.warnings.append(f"{path}: no vectors for the {split} split.")
        elif lacking:
            found.problems.append(f"{say_lacking(path, lacking, len(table), split)}: add them.")


def _counts(files: tuple[Path, ...], memes: pd.DataFrame | None) -> dict[str, Any]:
    named = {"files": [str(file) for file in files]}
    if memes is None:
        return named
    benign, hateful = (int((memes["label"] == label).sum()) for label in (0, 1))
    counts = {"memes": len(memes), "hateful": hateful, "benign": benign}
    return {**named, **counts, "unlabelled": len(memes) - benign - hateful}


def _table(splits: Mapping[str, Mapping[str, Any]]) -> str:
    numbers = ("memes", "hateful", "benign", "unlabelled")
    rows = []
    for split, found in splits.items():
        known = found.get("hateful", 0) + found.get("benign", 0)
        share = f"{found['hateful'] / known:.1%}" if known else "-"
        names = " + ".join(Path(file).name for file in found["files"])
        rows.append((split, names, *(found.get(each, "-") for each in numbers), share))
    columns = ["split", "files", *numbers, "share hateful"]
    return pd.DataFrame(rows, columns=columns).to_string(index=False)


def _broken_images(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    paths = list(dict.fromkeys(path for table in tables.values() for path in table["path"]))
    return [why for why in parallel_map(why_unreadable, paths, "decoding images") if why]
