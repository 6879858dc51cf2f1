"""`hm_concat explore`: planted memes are found, numbers agree, and hostile input stays text."""

import json
import random
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from conftest import CHROMIUM, screenshot
from PIL import Image

from mmf_hm_concat.cli import main
from mmf_hm_concat.data.layout import find_layout
from mmf_hm_concat.data.synthetic import draw_image
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.reports.explore import explore
from mmf_hm_concat.reports.groups import confounders, distinct, duplicates, with_keys
from mmf_hm_concat.reports.survey import survey
from mmf_hm_concat.reports.words import telling_words

HOSTILE = "<script>alert('x')</script><img src=http://x.test/a.png> {{ 7*7 }} \x1b[2J \u202e"
BAD_NAME = 'img/"><b onclick=1>.png'


def meme(number, text, label=None, img=None):
    fields = {"id": f"{number:05}", "img": img or f"img/{number:05}.png", "text": text}
    return fields if label is None else fields | {"label": label}


def write(folder, split, *memes):
    (folder / "img").mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, memes)))
    for each in memes:
        file = folder / each["img"]
        if not file.exists():
            draw_image(("sunny", "rainy")[int(each["id"]) % 2], random.Random(each["id"])).save(
                file
            )


@pytest.fixture
def planted(tmp_path):
    """A data set with one group of each kind among memes that have nothing in common."""
    folder = tmp_path / "data"
    rows = [meme(number, f"alone {'so ' * number}", number % 3 == 0) for number in range(1, 21)]
    rows = [row | {"label": int(row["label"])} for row in rows]
    rows += [meme(31, "shared  Text", 0), meme(32, "shared text", 1)]  # a text
    rows += [meme(41, "one caption", 0), meme(42, "another caption", 1)]  # an image file
    rows += [meme(51, "some words", 0), meme(52, "other words", 1)]  # an image saved anew
    rows += [meme(61, "twice", 1), meme(62, "twice", 1)]  # a duplicate
    rows += [meme(71, "undecided", 0), meme(72, "undecided", 1)]  # a conflict
    rows += [meme(81, HOSTILE, 0, BAD_NAME), meme(82, HOSTILE, 1)]  # a text
    write(folder, "train", *rows)
    for one, two in ((41, 42), (61, 62), (71, 72)):
        shutil.copy(folder / f"img/{one:05}.png", folder / f"img/{two:05}.png")
    with Image.open(folder / "img/00051.png") as image:
        image.convert("RGB").save(folder / "img/00052.png", "JPEG", quality=70)
    write(folder, "dev_seen", meme(90, "seen", 0), meme(91, "both", 1), rows[0])
    write(folder, "dev_unseen", meme(91, "both", 1), meme(92, "unseen", 0))
    write(folder, "test_unseen", meme(95, "no label"))
    return folder


def run(folder, tmp_path, name="out", **more):
    lines = []
    out = tmp_path / name
    page = explore(folder, out, cache_dir=tmp_path / "cache", log=lines.append, **more)
    return page.read_text(), "\n".join(lines)


def cells(text, *start):
    """The cells after those of the one line of the tables that begins with ``start``."""
    rows = [line.split() for line in text.split("\n")]
    (found,) = [row[len(start) :] for row in rows if tuple(row[: len(start)]) == start]
    return found


def ids(groups):
    return [sorted(group["number"].tolist()) for group in groups]


def test_planted_confounders_duplicates_and_conflicts_are_found(planted, tmp_path):
    memes, problems = survey(
        find_layout(planted, {"train": "train"}, cache_dir=tmp_path, needed=())
    )
    assert problems == []
    once = distinct(with_keys(memes))
    assert len(once) == len(memes) - 2  # 1 and 91 are in two files
    assert ids(confounders(once, "text_key", "image_key")) == [[31, 32], [81, 82]]
    assert ids(confounders(once, "image_key", "text_key")) == [[41, 42]]
    assert ids(confounders(once, "look_key", "text_key")) == [[41, 42], [51, 52]]
    assert ids(duplicates(once)) == [[61, 62], [71, 72]]


def test_the_tables_say_how_many(planted, tmp_path):
    _, text = run(planted, tmp_path)
    assert cells(text, "the", "same", "text,", "other", "images") == ["2", "4"]
    assert cells(text, "images", "that", "look", "alike,", "other", "texts") == ["2", "4"]
    assert cells(text, "duplicates") == ["2", "4"]
    assert cells(text, "of", "them,", "with", "different", "labels", "(conflicts)") == ["1", "2"]
    assert cells(text, "train", "dev_seen") == ["1", "1", "1", "1"]
    assert cells(text, "dev_seen", "dev_unseen") == ["1", "1", "1", "1"]
    assert cells(text, "train", "test_unseen") == ["0", "0", "0", "0"]


def test_numbers_are_those_of_the_annotation_files(planted, tmp_path):
    _, text = run(planted, tmp_path)
    train = [json.loads(line) for line in (planted / "train.jsonl").read_text().split("\n")]
    hateful = sum(row["label"] for row in train)
    share = f"{100 * hateful / len(train):.2f}"
    balance, words = text.split("Words per text, by split")
    assert cells(balance, "train") == [
        *map(str, (len(train) - hateful, hateful, 0, len(train))),
        share,
    ]
    assert cells(balance, "test_unseen") == ["0", "0", "1", "1", "NaN"]
    described = pd.Series([len(row["text"].split()) for row in train]).describe()
    assert cells(words.split("Image sizes")[0], "train") == [
        str(len(train)),
        *(f"{value:.2f}" for value in described.iloc[1:]),
    ]


def test_telling_words_are_those_of_the_formula():
    texts = ["bad bad day", "bad cat", "good day", "good cat don't", "cat"]
    labels = [1, 1, 0, 0, 0]
    table = telling_words(texts, labels).set_index("word")
    assert table.loc["bad", ["hateful", "benign"]].tolist() == [2, 0]  # in two memes, not thrice
    assert set(table.index) == {"bad", "day", "cat", "good", "don't"}
    assert table.index[0] == "bad" and table.index[-1] == "good"
    # Counts and prior added: of the word, and of all words (4 in hateful texts, 6 in benign ones).
    hateful, benign, of_hateful, of_benign = 2 + 2, 0 + 2, 4 + 10, 6 + 10
    ratio = np.log(hateful / (of_hateful - hateful)) - np.log(benign / (of_benign - benign))
    assert table.loc["bad", "z"] == pytest.approx(ratio / np.sqrt(1 / hateful + 1 / benign))


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def test_hostile_text_stays_text_and_nothing_is_loaded(planted, tmp_path):
    (planted / BAD_NAME).write_bytes(b"broken")  # so that its name is on the page
    html, _ = run(planted, tmp_path, unblur=True)
    page = Tags(html)
    assert not {"script", "link", "iframe", "object", "b", "base"} & set(page.tags)
    sources = [value for name, value in page.attributes if name in ("src", "href", "srcset")]
    assert sources and all(value.startswith("data:image/") for value in sources)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "url(" not in html and "@import" not in html
    assert "&#34;&gt;&lt;b onclick=1&gt;.png" in html
    assert "\x1b" not in html and "\u202e" not in html
    assert "&lt;script&gt;alert(&#39;x&#39;)" in html and "{{ 7*7 }}" in html
    for name in ("class_balance", "words_per_text", "image_sizes"):
        with Image.open(tmp_path / f"out/{name}.png") as image:
            assert image.format == "PNG"


def test_hateful_memes_are_blurred_until_one_asks(planted, tmp_path):
    html, _ = run(planted, tmp_path)
    assert 'id="unblur">' in html
    cards = [part.split("</figure>")[0] for part in html.split('<figure class="card">')[1:]]
    labels = {"benign": set(), "hateful": set(), "unlabelled": set()}
    for card in cards:
        label = next(label for label in labels if f"<small>{label}," in card)
        if "group" not in card:
            labels[label].add('class="blurred"' in card)
    assert labels == {"benign": {False}, "hateful": {True}, "unlabelled": {True}}
    assert all(card.count('class="blurred"') == 2 for card in cards if "<small>group" in card)
    assert 'id="unblur" checked>' in run(planted, tmp_path, unblur=True)[0]


def test_the_same_data_give_the_same_bytes(planted, tmp_path):
    pages = [run(planted, tmp_path, name) for name in ("one", "two")]
    assert pages[0] == pages[1]
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def few(folder, texts=None, labels=(0, 1), images=True):
    texts = texts or [f"text number {number}" for number in range(10)]
    rows = [meme(n, text, labels[n % len(labels)]) for n, text in enumerate(texts)]
    write(folder, "train", *rows)
    if not images:
        shutil.rmtree(folder / "img")


@pytest.mark.parametrize(
    "how, missing",
    [
        ({}, "overlap of splits"),
        ({"labels": (1,)}, "benign confounders: they take labelled memes of both classes"),
        ({"labels": (None,)}, "train: it has no labels"),
        ({"images": False}, "no image can be read"),
        ({"texts": [""] * 10}, "words per text: all texts are empty"),
        ({"texts": ["!", "?"]}, "telling words"),
        ({"texts": ["word", "word"]}, "overlap of splits"),
        ({"texts": ["one"]}, "telling words"),
    ],
)
def test_the_page_says_what_it_could_not_show(tmp_path, how, missing):
    few(tmp_path / "data", **how)
    html, text = run(tmp_path / "data", tmp_path)
    assert missing in text
    assert missing in html.split("</ul>")[0]


def test_bad_lines_and_broken_images_are_counted_and_the_others_shown(tmp_path):
    folder = tmp_path / "data"
    few(folder)
    (folder / "img/00003.png").write_bytes(b"not an image")
    (folder / "img/00004.png").unlink()
    with (folder / "train.jsonl").open("a") as lines:
        lines.write('\n{"id": 11, "img": "img/00001.png", "text": 5}\n[not json')
    (folder / "dev.jsonl").write_text("")
    html, text = run(folder, tmp_path)
    assert "train: 2 images cannot be read; the first, of 00003" in text
    assert "train.jsonl: 2 lines left out; the first" in text
    assert "dev.jsonl: no memes in it that can be used" in text
    assert "no image that can be read" in html
    assert cells(text.split("Words per text")[0], "train")[3] == "10"


def test_flat_images_do_not_look_alike(tmp_path):
    folder = tmp_path / "data"
    few(folder, texts=["a", "b"])
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (50, 50), colour).save(folder / f"img/{number:05}.png")
    memes, _ = survey(find_layout(folder, {"train": "train"}, cache_dir=tmp_path, needed=()))
    assert with_keys(memes)["look_key"].nunique() == 2


def test_nothing_to_show_and_nowhere_to_write_are_input_errors(tmp_path):
    folder = tmp_path / "data"
    few(folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written there"):
        run(folder, tmp_path, "file")  # before anything is read:
    with pytest.raises(InputError, match="cannot be written there"):
        run(tmp_path / "nowhere", tmp_path, "file")
    (folder / "train.jsonl").write_text("[]")
    with pytest.raises(InputError, match="no memes to show"):
        run(folder, tmp_path)


def test_the_command(sample, cache, tmp_path, capsys):
    assert main(["explore", str(sample), "--out", str(tmp_path / "page")]) == 0
    assert f"The page is {tmp_path / 'page/index.html'}" in capsys.readouterr().out
    assert main(["explore", str(tmp_path / "nowhere")]) == 1
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_it_without_a_word_on_its_console(planted, tmp_path, width):
    run(planted, tmp_path)
    png, console = screenshot(tmp_path / "out/index.html", tmp_path, width, 3000)
    assert "CONSOLE" not in console, console
    with Image.open(png) as shot:
        inside = shot.convert("RGB").crop((0, 0, width, 3000))
        assert len(inside.getcolors(1 << 24)) > 1000  # plots and memes, not an error
