"""What `hm_concat check-data DIR` does: say whether a data set can be used, and why not."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from mmf_hm_concat.data.features_file import read_features, say_lacking
from mmf_hm_concat.data.layout import DEFAULT_SPLITS, Layout, find_layout
from mmf_hm_concat.data.table import LABELS, Note, check_memes, check_splits
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.cache import why_unreadable
from mmf_hm_concat.utils.parallel import parallel_map
from mmf_hm_concat.utils.text import counted

# Files of the known layouts, which are checked also when no split is made of them.
KNOWN = ("train", "dev", "dev_seen", "dev_unseen", "test", "test_seen", "test_unseen")


def check_data(
    data_dir: str | Path,
    *,
    splits: Mapping[str, str] = DEFAULT_SPLITS,
    cache_dir: str | Path,
    password: str | None = None,
    features: Sequence[Path] = (),
    log: Callable[[str], None] = print,
) -> bool:
    """Log a data set's counts, warnings and problems; decode every image to find broken ones.

    Args:
        data_dir, splits, cache_dir, password: as for `find_layout`. What training needs (`train`
            and `val`, memes of both classes in `train`) is a problem when it is missing; that
            another split is missing is a warning.
        features: files of vectors for the memes (`features_file`): each has to be whole, and to
            have all memes of a split or none.
        log: called with each line or block of lines.

    Returns:
        Whether the data set can be used: there may be warnings, but no problems.
    """
    try:
        layout = find_layout(data_dir, splits, cache_dir=cache_dir, password=password, needed=())
        tables, errors, notes = check_splits(layout)
    except InputError as error:
        log(str(error))
        return False
    others = other_files(layout)
    tables_of_others, errors_of_others, notes_of_others = _check_others(others, layout.images)
    files = {**layout.annotations, **{name: (file,) for name, file in others.items()}}
    tables_of_all = {**tables, **tables_of_others}
    log(_counts(files, tables_of_all))
    log(f"images: {layout.images}")
    for split in splits:
        if split not in layout.annotations:
            what = f"{split}: no files for it ({splits[split]})"
            if LABELS.get(split):
                errors.append(f"{what}. Training needs them.")
            else:
                log(f"warning: {what}.")
    for level, note in notes + notes_of_others:
        log(f"{logging.getLevelName(level).lower()}: {note}")
    if "train" in tables and tables["train"]["label"].nunique() < 2:
        label = ("benign", "hateful")[tables["train"]["label"].iloc[0]]
        errors.append(f"train: all memes are {label}. Training needs both classes.")
    errors += errors_of_others + _broken_images(tables_of_all)
    errors += [each for file in features for each in _check_features(file, tables_of_all, log)]
    for each in errors:
        log(each)
    log("The data set cannot be used as it is." if errors else "The data set can be used.")
    return not errors


def other_files(layout: Layout) -> dict[str, Path]:
    """The annotation files that no split is made of, by their name."""
    used = {file for files in layout.annotations.values() for file in files}
    folders = dict.fromkeys(file.parent for file in used)
    files = [folder / f"{name}.jsonl" for name in KNOWN for folder in folders]
    return {file.name: file for file in files if file.is_file() and file not in used}


def _check_others(
    others: Mapping[str, Path], images: Path
) -> tuple[dict[str, pd.DataFrame], list[str], list[Note]]:
    # Each for itself: dev_seen and dev_unseen, say, have memes in common by design.
    tables, errors, notes = {}, [], []
    for name, file in others.items():
        try:
            labels = not name.startswith("test")
            tables[name], found = check_memes([file], images, split=name, labels=labels)
            notes += found
        except InputError as error:
            errors.append(str(error))
    return tables, errors, notes


def _check_features(
    path: Path, tables: Mapping[str, pd.DataFrame], log: Callable[[str], None]
) -> list[str]:
    """Log what is in a features file; returns what is wrong with it."""
    try:
        file = read_features(path, ())
    except InputError as error:
        return [str(error)]
    ids = {number for table in tables.values() for number in table["number"]}
    of_none = sum(number not in ids for number in file.ids_of_file.tolist())
    log(f"{path}: {counted(len(file.ids_of_file), 'vector')} of {file.width:,} numbers")
    if of_none:
        log(f"{path}: {counted(of_none, 'vector')} of no meme here, which is let pass")
    errors = []
    for split, table in tables.items():
        lacking = file.lacking(table["number"])
        if len(lacking) == len(table):
            log(f"warning: {path}: no vectors for the {split} split.")
        elif lacking:
            errors.append(f"{say_lacking(path, lacking, len(table), split)}: add them.")
    return errors


def _counts(files: Mapping[str, tuple[Path, ...]], tables: Mapping[str, pd.DataFrame]) -> str:
    rows: list[tuple[str | int, ...]] = []
    for split, of_split in files.items():
        names = " + ".join(file.name for file in of_split)
        if split not in tables:
            rows.append((split, names, *["-"] * 5))
            continue
        labels = tables[split]["label"]
        benign, hateful = (int((labels == label).sum()) for label in (0, 1))
        known = benign + hateful
        share = f"{hateful / known:.1%}" if known else "-"
        rows.append((split, names, len(labels), hateful, benign, len(labels) - known, share))
    columns = ["split", "files", "memes", "hateful", "benign", "unlabelled", "share hateful"]
    return pd.DataFrame(rows, columns=columns).to_string(index=False)


def _broken_images(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    paths = list(dict.fromkeys(path for table in tables.values() for path in table["path"]))
    return [why for why in parallel_map(why_unreadable, paths, "decoding images") if why]
