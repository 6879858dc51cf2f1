"""Memes with real content: drawings of a font, and sentences that people could have written.

A meme's label is 1 when its drawing is of an animal and its sentence of the sea, or the drawing is
of a vehicle and the sentence of the kitchen; so neither alone tells anything. No drawing and no
sentence is in two splits.
"""

import importlib.util
import json
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

# Code points of Unicode's groups "animal" and "transport" that Noto Emoji draws.
ANIMALS = [*range(0x1F400, 0x1F43D), *range(0x1F980, 0x1F9AF), 0x1F54A, 0x1F577, 0x1F43F]
VEHICLES = [*range(0x1F680, 0x1F6A4), *range(0x1F6E5, 0x1F6E6), *range(0x1F6F3, 0x1F6FC)]
VEHICLES += [0x1F3CE, 0x1F3CD, 0x1F6E9, 0x1F6E5, 0x1F9BC, 0x1F9BD, 0x2708, 0x26F5, 0x1F6F0]
NOT_VEHICLES = {0x1F6A3, 0x1F68F, *range(0x1F6A5, 0x1F6C0)}
SENTENCES = (Path(__file__).parent / "fixtures" / "sentences.txt").read_text("utf-8")


def sentences():
    """The sentences of the kitchen, and those of the sea."""
    kitchen, sea = SENTENCES.split("\n\n")
    return [[line for line in part.splitlines() if line] for part in (kitchen, sea)]


def make_real_memes(out, train=600, dev=120, test=240, seed=0):
    """Write dataset files into ``out``, in phase 1's layout, with test_truth.csv."""
    random_ = random.Random(seed)
    drawings = [_distinct(ANIMALS), _distinct([v for v in VEHICLES if v not in NOT_VEHICLES])]
    texts = sentences()
    for group in (*drawings, *texts):
        random_.shuffle(group)
    (out / "img").mkdir(parents=True)
    truth, number = ["id,label"], 10_000
    for split, count, share in (
        ("train", train, (0, 0.6)),
        ("dev", dev, (0.6, 0.75)),
        ("test", test, (0.75, 1)),
    ):
        lines = []
        for index in range(count):
            topics = index % 2, index // 2 % 2
            drawing, text = (
                random_.choice(_share(groups[topic], share))
                for groups, topic in zip((drawings, texts), topics, strict=True)
            )
            name = f"img/{number}.png"
            _draw(drawing, random_).save(out / name)
            meme = {"id": number, "img": name, "text": text, "label": topics[0] ^ topics[1]}
            truth += [f"{number},{meme['label']}"] * (split == "test")
            if split == "test":
                del meme["label"]
            lines.append(json.dumps(meme))
            number += 1
        (out / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    (out / "test_truth.csv").write_text("\n".join(truth) + "\n")


def _share(group, bounds):
    first, last = (round(bound * len(group)) for bound in bounds)
    return group[first:last]


def _font(size):
    folder = importlib.util.find_spec("manimgx_fonts").submodule_search_locations[0]
    return ImageFont.truetype(str(Path(folder) / "NotoEmoji[wght].ttf"), size)


def _distinct(points):
    """Those that the font draws, each once."""
    font = _font(64)
    missing = bytes(font.getmask(chr(0x10FFFF)))
    return [p for p in dict.fromkeys(points) if bytes(font.getmask(chr(p))) != missing]


def _draw(point, random_):
    """A drawing on a plain ground: size, place, slant and colours by chance."""
    ground, ink = (tuple(random_.randint(*b) for _ in range(3)) for b in ((150, 255), (0, 110)))
    glyph = Image.new("L", (256, 256))
    ImageDraw.Draw(glyph).text(
        (128, 128), chr(point), fill=255, anchor="mm", font=_font(random_.randint(120, 190))
    )
    glyph = glyph.rotate(random_.uniform(-15, 15))
    image = Image.new("RGB", (256, 256), ground)
    shift = random_.randint(-20, 20), random_.randint(-20, 20)
    image.paste(Image.new("RGB", (256, 256), ink), shift, glyph)
    return image
