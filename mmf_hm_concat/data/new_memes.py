"""Memes that nobody has labelled, as people have them: a folder of images, a .jsonl or a .csv.

Each becomes a table with one row a meme, in the file's order or by name:

| column | dtype | meaning |
|---|---|---|
| `id` | text | what the predictions call it: the file's id, else the image as the file names it |
| `number` | int64 | the id as a number; of a .jsonl only (data/table.py) |
| `path` | text | absolute path of the image |
| `text` | text | the meme's text, maybe empty |
"""

import csv
import io
import logging
from pathlib import Path

import pandas as pd

from mmf_hm_concat.data.annotations import shortened
from mmf_hm_concat.data.layout import find_layout
from mmf_hm_concat.data.table import read_splits
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.utils.files import open_regular
from mmf_hm_concat.utils.text import first_and_more

logger = logging.getLogger("mmf_hm_concat")

ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")
SHOWN = 20  # problems that are shown in full


def read_new_memes(source: Path, cache_dir: Path) -> pd.DataFrame:
    """The memes of a folder or a file, as the top of this file says.

    Args:
        source: one of

            - a folder: all images in it and below; the text of `a.png` is in `a.txt` beside it,
              and empty where there is no such file, of which the log says how many;
            - a .jsonl as the dataset's (data/table.py), with or without labels;
            - a .csv in UTF-8 with the columns `image` and `text`, and `id` if there are ids;
              images as seen from its folder.
        cache_dir: for the images of a .jsonl, should they be in an archive.

    Raises:
        InputError: nothing like that is there, it has no memes, or with all that is wrong in it.
    """
    if source.is_dir():
        return _of_folder(source)
    if source.suffix.lower() == ".jsonl":
        return _of_jsonl(source, cache_dir)
    if source.suffix.lower() == ".csv":
        return _of_csv(source)
    what = "is none of these" if source.exists() else "does not exist"
    raise InputError(f"{source} {what}: give a folder of images, a .jsonl or a .csv.")


def _of_folder(folder: Path) -> pd.DataFrame:
    if files := sorted(folder.glob("*.jsonl")):
        raise InputError(f"{folder} is a folder of dataset files: name one, as {files[-1]}.")
    images = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
    if not images:
        raise InputError(f"{folder}: no images in it ({', '.join(ENDINGS)}).")
    texts = [_text_beside(image) for image in images]
    if without := sum(text is None for text in texts):
        logger.warning(
            "%d of %d images have no text beside them (a.txt for a.png): taken as empty.",
            without,
            len(images),
        )
    ids = [image.relative_to(folder).as_posix() for image in images]
    paths = [str(image.absolute()) for image in images]
    return pd.DataFrame({"id": ids, "path": paths, "text": [text or "" for text in texts]})


def _text_beside(image: Path) -> str | None:
    file = image.with_suffix(".txt")
    try:
        with open_regular(file) as opened:
            return opened.read().decode("utf-8-sig").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as text in UTF-8 ({error}).") from None


def _of_jsonl(file: Path, cache_dir: Path) -> pd.DataFrame:
    if not file.is_file():
        raise InputError(f"{file}: no such file.")
    # By its whole path: no part of the name can be taken for several files.
    layout = find_layout(
        file.parent, {"memes": str(file.absolute())}, cache_dir=cache_dir, needed=("memes",)
    )
    table = read_splits(layout, labels={})["memes"]
    return table[["number", "path", "text"]].assign(id=table["number"].astype(str))


def _of_csv(file: Path) -> pd.DataFrame:
    try:
        with open_regular(file) as opened:
            content = opened.read().decode("utf-8-sig")
        reader = csv.reader(io.StringIO(content, newline=""), strict=True)
        lines = [(row, reader.line_num) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read as a CSV in UTF-8 ({error}).") from None
    header = lines[0][0] if lines else []
    if missing := [name for name in ("image", "text") if name not in header]:
        raise InputError(
            f"{file}, line 1: no column {' and no '.join(missing)}; there is "
            f"{shortened(','.join(header))}. Columns: image,text, and id if there are ids."
        )
    problems, rows = [], []
    for row, line in lines[1:]:
        if len(row) != len(header):
            problems.append(f"{file}, line {line}: {len(row)} fields instead of {len(header)}.")
            continue
        fields = dict(zip(header, row, strict=True))
        path = file.parent.absolute() / fields["image"]
        if "\0" in fields["image"] or not path.is_file():
            problems.append(f"{file}, line {line}, image = {shortened(fields['image'])}: no file.")
        rows.append({"id": fields.get("id", fields["image"]), "path": str(path), **fields})
    if problems:
        raise InputError("\n".join(first_and_more(problems, SHOWN)))
    if not rows:
        raise InputError(f"{file}: no memes in it.")
    return pd.DataFrame(rows)[["id", "path", "text"]]
