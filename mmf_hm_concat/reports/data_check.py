"""What `hm_concat check-data DIR` does: say whether a data set can be used, and why not."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from mmf_hm_concat.data.layout import DEFAULT_SPLITS, Layout, find_layout
from mmf_hm_concat.data.table import check_splits
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.cache import why_unreadable
from mmf_hm_concat.utils.parallel import parallel_map


def check_data(
    data_dir: str | Path,
    *,
    splits: Mapping[str, str] = DEFAULT_SPLITS,
    cache_dir: str | Path,
    password: str | None = None,
    log: Callable[[str], None] = print,
) -> bool:
    """Log a data set's counts, warnings and problems; decode every image to find broken ones.

    Args:
        data_dir, splits, cache_dir, password: as for `find_layout`. Splits that do not exist
            are only mentioned, but one must.
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
    log(_counts(layout, tables))
    log(f"images: {layout.images}")
    for split in splits:
        if split not in layout.annotations:
            log(f"warning: {split}: no files for it ({splits[split]}).")
    for level, note in notes:
        log(f"{logging.getLevelName(level).lower()}: {note}")
    errors += _broken_images(tables)
    for error in errors:
        log(error)
    log("The data set cannot be used as it is." if errors else "The data set can be used.")
    return not errors


def _counts(layout: Layout, tables: Mapping[str, pd.DataFrame]) -> str:
    rows = []
    for split, files in layout.annotations.items():
        names = " + ".join(file.name for file in files)
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
