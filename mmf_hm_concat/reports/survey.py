"""All memes of a data set as they are, for looking at: what is wrong is counted, not refused.

Training needs `data.table`, which refuses a split with one bad line. Here a bad line is left out,
a meme without a readable image stays, and each annotation file is a split of its own, so that
dev_seen and dev_unseen are told apart.
"""

import hashlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import imagehash
import numpy as np
import pandas as pd
from PIL import Image

from mmf_hm_concat.data.annotations import MISSING, field_checks, read_json_lines
from mmf_hm_concat.data.layout import Layout
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.decode import FORMATS, decode, read_file
from mmf_hm_concat.reports.data_check import other_files
from mmf_hm_concat.utils.parallel import parallel_map
from mmf_hm_concat.utils.text import counted

# Below this deviation of its grey values (0 to 255) an image is one flat colour, and its
# perceptual hash is noise: all flat images would look alike.
FLAT = 2.0


class Look(NamedTuple):
    """What one image file is: ``problem`` alone when it cannot be read."""

    problem: str | None = None
    content: str | None = None  # hexadecimal SHA-256 of the file
    width: int = 0  # pixels, upright
    height: int = 0
    mode: str | None = None  # Pillow's, and the format: "RGB PNG"
    kilobytes: float = 0.0
    look: int | None = None  # 64-bit perceptual hash; None for a flat image


def survey(layout: Layout) -> tuple[pd.DataFrame, list[str]]:
    """Read all annotation files of a layout and look at every image once, on all cores.

    Returns:
        One row a line that can be used: ``split`` (the file's name without ending), ``name``
        (the id as written), ``number`` (the id), ``img``, ``path`` (None: no such file), ``text``,
        ``label`` (Int8, <NA> unknown), and the columns of `Look`; and what could not be used, in
        sentences.
    """
    used = [file for files in layout.annotations.values() for file in files]
    files = list(dict.fromkeys([*used, *other_files(layout).values()]))
    memes, problems = read_annotations(files, layout.images)
    memes = with_looks(memes)
    return memes, problems + _image_problems(memes)


def read_annotations(files: Sequence[Path], images: Path) -> tuple[pd.DataFrame, list[str]]:
    """As `survey`, of these files, without looking at the images: no columns of `Look`."""
    tables, problems = [], []
    for file in files:
        table, problem = _read(file, images)
        tables.append(table)
        problems += problem
    return pd.concat(tables, ignore_index=True), problems


def with_looks(memes: pd.DataFrame) -> pd.DataFrame:
    """Look at every image of the memes once, on all cores: add the columns of `Look`."""
    paths = list(dict.fromkeys(memes["path"].dropna()))
    looks = dict(zip(paths, parallel_map(look_at, paths, "looking at images"), strict=True))
    nothing = Look("no such file")
    columns = [looks.get(path, nothing) for path in memes["path"]]
    seen = pd.DataFrame(columns, columns=list(Look._fields), index=memes.index, dtype=object)
    return pd.concat([memes, seen], axis=1)


def look_at(path: str) -> Look:
    """Decode one image and say what it is."""
    try:
        data = read_file(path)
        image = decode(data, path)
    except InputError as error:
        return Look(str(error))
    with Image.open(BytesIO(data), formats=FORMATS) as header:
        mode = f"{header.mode} {header.format}"
    grey = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    flat = np.asarray(grey, dtype=float).std() < FLAT
    look = None if flat else int(str(imagehash.phash(grey)), 16)
    return Look(None, hashlib.sha256(data).hexdigest(), *image.size, mode, len(data) / 1000, look)


def _read(file: Path, images: Path) -> tuple[pd.DataFrame, list[str]]:
    lines, objects, not_objects = read_json_lines(file)
    checks = field_checks(images, labels=False)
    rows: list[Mapping[str, Any]] = []
    bad = [str(problem) for problem in not_objects]
    for line, fields in zip(lines, objects, strict=True):
        found = {field: fields.get(field, MISSING) for field in checks}
        wrong = {field: why for field, check in checks.items() if (why := check(found[field]))}
        image_missing = wrong.pop("img", None)
        if wrong:
            bad.append(f"{file}, line {line}: {next(iter(wrong))}: {next(iter(wrong.values()))}.")
            continue
        label = None if found["label"] is MISSING else found["label"]
        path = None if image_missing else f"{images.absolute()}/{found['img']}"
        img = found["img"] if isinstance(found["img"], str) else ""
        row = {"name": str(found["id"]), "number": int(found["id"]), "img": img, "path": path}
        rows.append(row | {"text": found["text"], "label": label})
    problems = []
    if bad:
        problems.append(f"{file.name}: {counted(len(bad), 'line')} left out; the first: {bad[0]}")
    if not rows:
        problems.append(f"{file.name}: no memes in it that can be used.")
    columns = ["name", "number", "img", "path", "text", "label"]
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    table = table.astype({"number": "int64", "label": "Int8"})
    table.insert(0, "split", file.stem)
    return table, problems


def _image_problems(memes: pd.DataFrame) -> list[str]:
    problems = []
    for split, of_split in memes.groupby("split", sort=False):
        bad = of_split[of_split["problem"].notna()]
        if len(bad) == len(of_split):
            problems.append(f"{split}: none of its images can be read: {bad['problem'].iloc[0]}")
        elif len(bad):
            first = bad.iloc[0]
            problems.append(
                f"{split}: {counted(len(bad), 'image')} cannot be read; the first, of "
                f"{first['name']}: {first['problem']}"
            )
    return problems
