"""What `hm_concat explore DATA_DIR` does: show what is in a data set, in numbers and in memes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from mmf_hm_concat.data.layout import DEFAULT_SPLITS, find_layout
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.decode import read_rgb
from mmf_hm_concat.reports import plots
from mmf_hm_concat.reports.groups import (
    LOOK_BITS,
    confounders,
    distinct,
    duplicates,
    overlap,
    with_keys,
)
from mmf_hm_concat.reports.page import (
    Card,
    Cards,
    Section,
    Table,
    check_folder,
    thumbnail,
    write_page,
)
from mmf_hm_concat.reports.survey import survey
from mmf_hm_concat.reports.words import METHOD, telling_words
from mmf_hm_concat.utils.text import counted

SEED = 0  # of the memes that are drawn for the grid
GRID, GROUPS, MEMBERS, WORDS = 12, 5, 4, 15  # how many are shown of each
CLASSES = {0: "benign", 1: "hateful"}


def explore(
    data_dir: str | Path,
    out: Path,
    *,
    cache_dir: str | Path,
    unblur: bool = False,
    log: Callable[[str], None] = print,
) -> Path:
    """Log the tables, and write ``out/index.html`` with them, the plots and memes side by side.

    Args:
        data_dir, cache_dir: as for `find_layout`; all annotation files of the layout are read.
        unblur: show hateful and unlabelled memes without blur when the page opens.
        log: called with each block of lines.

    Returns:
        The path of the page. The same files give the same bytes.

    Raises:
        InputError: no dataset files, no usable line in any of them, or ``out`` cannot be written.
    """
    check_folder(out)
    layout = find_layout(data_dir, DEFAULT_SPLITS, cache_dir=cache_dir, needed=())
    memes, not_shown = survey(layout)
    if memes.empty:
        raise InputError("\n".join([f"{data_dir}: there are no memes to show.", *not_shown]))
    memes = with_keys(memes.assign(class_=memes["label"].map(CLASSES).fillna("unlabelled")))
    once = distinct(memes)
    parts = (
        _balance(memes, not_shown),
        _words_per_text(memes, once, not_shown),
        _images(memes, not_shown),
        _some_memes(once),
        _confounders(once, not_shown),
        _duplicates(once),
        _overlap(memes, not_shown),
        _telling_words(once, not_shown),
    )
    for section in parts:
        for block in section.blocks:
            if isinstance(block, Table):
                shown = block.frame.to_string(index=False, float_format="{:,.2f}".format)
                log(f"{block.caption}\n{shown}\n")
    for line in not_shown:
        log(f"not shown: {line}")
    splits = memes["split"].nunique()
    lead = (
        f"{counted(len(memes), 'meme')} in {counted(splits, 'annotation file')} of "
        f"{Path(data_dir).absolute()}. Hateful and unlabelled memes are blurred until you ask."
    )
    title = "What is in this data set"
    return write_page(out, title, lead, parts, not_shown=not_shown, unblur=unblur)


def _balance(memes: pd.DataFrame, not_shown: list[str]) -> Section:
    counts = pd.crosstab(memes["split"], memes["class_"]).reindex(
        index=memes["split"].unique(), columns=list(plots.COLOURS), fill_value=0
    )
    known = counts["hateful"] + counts["benign"]
    share = (100 * counts["hateful"] / known.where(known > 0)).astype(float)
    table = counts.assign(memes=counts.sum(axis=1), share=share).reset_index()
    table.columns = ["split", *counts.columns, "memes", "% hateful"]
    for split in known[known == 0].index:
        not_shown.append(f"{split}: it has no labels, so nothing here tells its classes apart.")
    all_known = int(known.sum())
    title = "No meme has a label"
    if all_known:
        title = f"{counts['hateful'].sum() / all_known:.0%} of the labelled memes are hateful"
    plot = plots.bars("class_balance", title, counts.to_dict("index"), "memes")
    return Section(
        "Class balance",
        ["One row an annotation file. The share is that of the labelled memes."],
        [Table(table, "Memes of each class"), plot],
    )


def _words_per_text(memes: pd.DataFrame, once: pd.DataFrame, not_shown: list[str]) -> Section:
    words = memes["text"].str.split().str.len()
    both = [memes.assign(words=words, of=memes[of]) for of in ("split", "class_")]
    described = pd.concat([each.groupby("of", sort=False)["words"].describe() for each in both])
    table = described.reset_index().rename(columns={"of": "memes of"})
    table["count"] = table["count"].astype(int)
    of_class = {
        name: words[once.index][once["class_"] == name].tolist()
        for name in plots.COLOURS
        if (once["class_"] == name).any()
    }
    title = f"Half of the texts have at most {words.median():.0f} words, the longest {words.max()}"
    if not words.any():
        not_shown.append("words per text: all texts are empty.")
    plot = plots.histogram(
        "words_per_text", title, of_class, "words in the text", "memes of the class (%)"
    )
    return Section(
        "Words per text",
        ["A word is what stands between spaces. std: the standard deviation."],
        [Table(table, "Words per text, by split and by class"), plot],
    )


def _images(memes: pd.DataFrame, not_shown: list[str]) -> Section:
    seen = memes[memes["problem"].isna()].drop_duplicates("path")
    if seen.empty:
        not_shown.append("image sizes and modes: no image can be read.")
        return Section("Images", ["No image of this data set can be read."])
    numbers = seen[["width", "height", "kilobytes"]].astype(float)
    numbers = numbers.assign(ratio=numbers["width"] / numbers["height"])
    numbers.columns = ["width (pixels)", "height (pixels)", "size (kB)", "width / height"]
    described = numbers.describe().T.reset_index().rename(columns={"index": "image"})
    described["count"] = described["count"].astype(int)
    modes = pd.crosstab(seen["split"], seen["mode"]).reindex(seen["split"].unique())
    width, height = seen["width"].astype(int), seen["height"].astype(int)
    title = (
        f"Images are {width.min()} to {width.max()} pixels wide and {height.min()} to "
        f"{height.max()} high"
    )
    return Section(
        "Images",
        [
            f"{counted(len(seen), 'image file')} can be read. Sizes are of the upright image; the "
            "mode is that of the file, as Pillow names it."
        ],
        [
            Table(described, "Image sizes"),
            Table(modes.rename_axis(columns=None).reset_index(), "Images of each mode and format"),
            plots.sizes("image_sizes", title, width.tolist(), height.tolist()),
        ],
    )


def _some_memes(once: pd.DataFrame) -> Section:
    classes = once["class_"].unique()
    each = -(-GRID // len(classes))
    drawn = [
        of_class.sample(min(each, len(of_class)), random_state=SEED)
        for _, of_class in once.groupby("class_")
    ]
    some = pd.concat(drawn).sample(frac=1, random_state=SEED)
    return Section(
        "Some memes",
        [f"Drawn at random (seed {SEED}), about as many of each class."],
        [_cards("Memes with their texts and labels", some, together=False)],
    )


def _confounders(once: pd.DataFrame, not_shown: list[str]) -> Section:
    if once["label"].nunique() < 2:
        not_shown.append("benign confounders: they take labelled memes of both classes.")
        return Section("Benign confounders", ["There are no labelled memes of both classes."])
    kinds = {
        "the same text, other images": confounders(once, "text_key", "image_key"),
        "the same image file, other texts": confounders(once, "image_key", "text_key"),
        "images that look alike, other texts": confounders(once, "look_key", "text_key"),
    }
    rows = [(kind, len(groups), sum(map(len, groups))) for kind, groups in kinds.items()]
    table = pd.DataFrame(rows, columns=["memes with both labels that share", "groups", "memes"])
    return Section(
        "Benign confounders",
        [
            "Memes of different labels that share a text or an image: a model of one modality "
            "gives all of a group the same probability. Texts are compared in lower case; images "
            "look alike when their perceptual hashes (pHash of the imagehash library) differ in at "
            f"most {LOOK_BITS} of 64 bits, or are linked by others that do.",
        ],
        [
            Table(table, "Groups over all splits"),
            *(_examples(kind, groups) for kind, groups in list(kinds.items())[::2] if groups),
        ],
    )


def _duplicates(once: pd.DataFrame) -> Section:
    groups = duplicates(once)
    conflicts = [group for group in groups if group["label"].dropna().nunique() > 1]
    rows = [
        ("duplicates", len(groups), sum(map(len, groups))),
        ("of them, with different labels (conflicts)", len(conflicts), sum(map(len, conflicts))),
    ]
    table = pd.DataFrame(
        rows, columns=["memes with the same text and image file", "groups", "memes"]
    )
    blocks = [Table(table, "Groups over all splits; a meme that several files list counts once")]
    shown = [_examples("a conflict", conflicts)] if conflicts else []
    same = [group for group in groups if group["label"].dropna().nunique() < 2]
    shown += [_examples("a duplicate", same)] if same else []
    text = ["dataset_config.hm_competition.drop_duplicates=true takes them out of train."]
    return Section("Duplicates and conflicts", text, [*blocks, *shown])


def _overlap(memes: pd.DataFrame, not_shown: list[str]) -> Section:
    if memes["split"].nunique() < 2:
        not_shown.append("overlap of splits: there is one split only.")
        return Section("Overlap of splits", ["There is one split only."])
    return Section(
        "Overlap of splits",
        [
            "How many memes of one split are also in another: scores on what was trained on say "
            "little. In the competition's files, dev_seen and dev_unseen share memes by design."
        ],
        [Table(overlap(memes), "Memes of one split that are also in another")],
    )


def _telling_words(once: pd.DataFrame, not_shown: list[str]) -> Section:
    labelled = once[once["label"].notna()]
    words = telling_words(labelled["text"].tolist(), labelled["label"].astype(int).tolist())
    if words.empty:
        not_shown.append("telling words: they take texts of both classes.")
        return Section("Most telling words", ["There are no texts of both classes."])
    hateful = words[words["z"] > 0].head(WORDS)
    benign = words[words["z"] < 0].iloc[::-1].head(WORDS)
    return Section(
        "Most telling words",
        [METHOD, "The counts are of the labelled memes that have the word."],
        [
            Table(hateful, "Words of hateful memes", blurred=["word"]),
            Table(benign, "Words of benign memes"),
        ],
    )


def _examples(kind: str, groups: Sequence[pd.DataFrame]) -> Cards:
    """Of the groups, the first members of each label, a group after the other."""
    members = []
    for group in groups[:GROUPS]:
        turn = group.groupby("label", dropna=False).cumcount()
        members.append(group.loc[turn.sort_values(kind="stable").index].head(MEMBERS))
    shown = pd.concat(
        member.assign(group=f"group {number}") for number, member in enumerate(members, 1)
    )
    title = f"Examples of {kind} ({min(GROUPS, len(groups))} of {counted(len(groups), 'group')})"
    return _cards(title, shown, together=True)


def _cards(title: str, memes: pd.DataFrame, *, together: bool) -> Cards:
    """Cards of memes; ``together``: what one shares with a hateful one is blurred, too."""
    cards = []
    for meme in memes.to_dict("records"):
        lines = [f"{meme['class_']}, {meme['split']}"]
        lines += [meme["group"]] if together else []
        jpeg = None if meme["problem"] else _thumbnail(meme["path"])
        blurred = together or meme["class_"] != "benign"
        cards.append(Card(f"meme {meme['name']}", meme["text"], lines, jpeg, blurred))
    return Cards(title, cards)


def _thumbnail(path: str) -> bytes | None:
    try:
        return thumbnail(read_rgb(path))
    except InputError:  # it was there a moment ago
        return None
