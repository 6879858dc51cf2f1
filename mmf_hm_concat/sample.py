"""A sample of generated memes in the competition's layout, to try everything without its data.

A picture is one of two scenes, a bright day or a rainy night; a text has one of two moods,
cheerful or gloomy. A meme counts as hateful when the words contradict the picture: neither alone
tells anything (the label is their exclusive-or, and each scene and each mood has the same share
of hateful memes), both together tell everything. As in the real data there are benign
confounders: memes that share their text, or their picture, with one of the other label. The
caption drawn into the picture is bars without words, so that it does not give the mood away.
"""

import json
import math
import random
import shutil
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from mmf_hm_concat.errors import InputError

# Written last, so that a folder with it is a whole sample; raise the number to change its content.
MARKER, VERSION = "sample.json", 1
# Share of all memes, and of hateful ones in it; those of train and dev are the real data's.
SPLITS = {"train": (0.7, 0.36), "dev": (0.15, 0.5), "test": (0.15, 0.5)}
# Every so many memes of a scene and mood share their text, or their picture, with another one.
CONFOUNDED = 4
MODES = ("RGB", "RGB", "RGB", "RGBA", "P", "L")

WORDS = {
    "cheerful": {
        "feeling": ["happy", "glad", "joyful", "merry", "thrilled", "delighted", "cheerful", "grateful", "proud"],
        "thing": ["sunshine", "laughter", "music", "dancing", "cake", "friends", "holidays", "kittens", "hugs"],
        "verdict": ["best", "wonderful", "lovely", "perfect", "brilliant", "sweet", "amazing", "fantastic"],
    },
    "gloomy": {
        "feeling": ["sad", "lonely", "tired", "bored", "miserable", "gloomy", "anxious", "grumpy", "weary"],
        "thing": ["homework", "dishes", "traffic", "taxes", "mondays", "headaches", "queues", "bills", "silence"],
        "verdict": ["worst", "awful", "dreadful", "boring", "horrible", "bitter", "hopeless", "terrible"],
    },
}
FRAMES = (
    "so {feeling} today, nothing but {thing} and {thing2}",
    "when {thing} makes you {feeling} all week",
    "the {verdict} day ever, full of {thing}",
    "me: {feeling} and {feeling2} because of {thing}",
    "{thing} again, how {verdict} is that",
    "my friends are {feeling}, {thing} is the {verdict}",
    "another {verdict} morning with {thing} and {thing2}",
    "nobody is as {feeling} as me, thanks to {thing}",
)


def make_sample(out: Path, *, memes: int = 1000, seed: int = 0) -> None:
    """Make a sample in ``out``: train.jsonl, dev.jsonl, test.jsonl, img/ and test_truth.csv.

    The same arguments give the same annotations, byte for byte, and with the same Pillow the same
    pictures. A folder that already holds this very sample is left as it is. About 20 ms a meme.

    Args:
        memes: of all splits together, at least 40.
        seed: another seed, other memes.

    Raises:
        InputError: too few memes, or ``out`` holds something else.
    """
    settings = {"version": VERSION, "memes": memes, "seed": seed}
    if memes < 40:
        raise InputError(
            f"A sample needs at least 40 memes to have some of each kind, not {memes}."
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        marker = out / MARKER
        if marker.is_file() and json.loads(marker.read_text()) == settings:
            print(f"{out} already holds this sample.")
            return
        raise InputError(f"{out} exists and is not this sample. Name another folder, or remove it.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".sample-") as folder:
        made = Path(folder) / "sample"
        (made / "img").mkdir(parents=True)
        _write(made, memes, random.Random(f"{VERSION}-{seed}"))
        (made / MARKER).write_text(json.dumps(settings) + "\n")
        if out.exists():
            out.rmdir()  # empty, as checked above
        shutil.move(made, out)
    print(f"Made {memes} memes in {out}.")


def _write(out: Path, memes: int, rng: random.Random) -> None:
    number = rng.randrange(1000, 2000)
    for split, (share, hateful) in SPLITS.items():
        rows, plan = [], _plan(round(memes * share), hateful, rng)
        rng.shuffle(plan)  # or the ids would tell the kind
        for scene, mood, text, picture, mode in plan:
            number += rng.randrange(1, 60)
            name = f"{number:05d}"
            draw_scene(scene, random.Random(picture)).convert(mode).save(out / f"img/{name}.png")
            label = int((scene == "day") != (mood == "cheerful"))
            rows.append({"id": name, "img": f"img/{name}.png", "label": label, "text": text})
        rng.shuffle(rows)
        if split == "test":
            truth = "".join(f"{row['id']},{row['label']}\n" for row in rows)
            (out / "test_truth.csv").write_text("id,label\n" + truth)
            rows = [{key: row[key] for key in ("id", "img", "text")} for row in rows]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (out / f"{split}.jsonl").write_text(lines)


def _plan(memes: int, hateful: float, rng: random.Random) -> list[tuple[str, str, str, str, str]]:
    """(scene, mood, text, seed of the picture, mode) of each meme of a split.

    Both scenes with both moods, so many that P(hateful) is the same for each scene and mood.
    """
    contrary = round(memes * hateful / 2)
    agreeing = memes // 2 - contrary
    rows = []
    for scene, other in (("day", "night"), ("night", "day")):
        for mood in ("cheerful", "gloomy"):
            contradicts = (scene == "day") != (mood == "cheerful")
            for i in range(contrary if contradicts else agreeing):
                # The i-th text of a mood serves both scenes, the i-th picture both moods, where
                # they are confounders; a string seed gives the same numbers in any Python.
                shares = i % CONFOUNDED if i < min(contrary, agreeing) else None
                text_of = f"{mood}-{i}" if shares == 0 else f"{scene}-{mood}-{i}"
                picture_of = f"{scene}-{i}" if shares == 2 else f"{scene}-{mood}-{i}"
                rows.append((scene, mood, text_of, picture_of))
    salt = rng.random()
    return [
        (
            scene,
            mood,
            make_text(mood, random.Random(f"{salt}-text-{text_of}")),
            f"{salt}-{picture_of}",
            random.Random(f"{salt}-mode-{picture_of}").choice(MODES),
        )
        for scene, mood, text_of, picture_of in rows
    ]


def make_text(mood: str, rng: random.Random) -> str:
    """A lower-case caption of 5 to 10 words."""
    words = WORDS[mood]
    feelings, things = rng.sample(words["feeling"], 2), rng.sample(words["thing"], 2)
    return rng.choice(FRAMES).format(
        feeling=feelings[0],
        feeling2=feelings[1],
        thing=things[0],
        thing2=things[1],
        verdict=rng.choice(words["verdict"]),
    )


def draw_scene(scene: str, rng: random.Random) -> Image.Image:
    """An RGB picture, 200 to 320 pixels a side (the real ones are 400 to 900)."""
    width, height = rng.randrange(200, 321), rng.randrange(200, 321)
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    horizon = int(height * rng.uniform(0.5, 0.75))
    day = scene == "day"
    sky = _shade(rng, (120, 190, 240) if day else (25, 30, 60))
    for y in range(horizon):  # lighter towards the horizon
        add = int(50 * y / horizon)
        draw.line([(0, y), (width, y)], tuple(min(255, c + add) for c in sky))
    draw.rectangle([0, horizon, width, height], _shade(rng, (90, 180, 80) if day else (40, 45, 50)))
    (_draw_day if day else _draw_night)(draw, rng, width, height, horizon)
    _draw_caption(draw, rng, width, height)
    return image


def _draw_day(draw: ImageDraw.ImageDraw, rng: random.Random, w: int, h: int, horizon: int) -> None:
    radius = rng.randrange(14, 30)
    x, y = rng.randrange(radius, w - radius), rng.randrange(radius, horizon - radius)
    for ray in range(12):
        angle = ray * math.pi / 6
        end = (x + 1.7 * radius * math.cos(angle), y + 1.7 * radius * math.sin(angle))
        draw.line([(x, y), end], (255, 230, 120), 3)
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], (255, 215, 60))
    for _ in range(rng.randrange(6, 16)):  # flowers
        x, y, r = rng.randrange(w), rng.randrange(horizon, h), rng.randrange(2, 5)
        colour = rng.choice([(230, 60, 90), (250, 210, 60), (240, 240, 250), (200, 90, 220)])
        draw.ellipse([x - r, y - r, x + r, y + r], colour)


def _draw_night(
    draw: ImageDraw.ImageDraw, rng: random.Random, w: int, h: int, horizon: int
) -> None:
    x = 0
    while x < w:  # houses with a few lit windows
        wide, top = rng.randrange(25, 60), horizon - rng.randrange(20, horizon // 2)
        draw.rectangle([x, top, x + wide, horizon], _shade(rng, (55, 55, 70)))
        for wx in range(x + 5, x + wide - 6, 12):
            for wy in range(top + 6, horizon - 8, 14):
                if rng.random() < 0.3:
                    draw.rectangle([wx, wy, wx + 5, wy + 7], (240, 200, 110))
        x += wide + rng.randrange(0, 12)
    for _ in range(rng.randrange(60, 140)):  # rain
        x, y, length = rng.randrange(w), rng.randrange(h), rng.randrange(6, 14)
        draw.line([(x, y), (x - length // 3, y + length)], (150, 165, 190))


def _draw_caption(draw: ImageDraw.ImageDraw, rng: random.Random, w: int, h: int) -> None:
    """Bars where a meme has its words."""
    for y in (8, h - 24):
        x = rng.randrange(10, 30)
        while x < w - 40:
            long = rng.randrange(14, 46)
            draw.rectangle([x, y, x + long, y + 14], (250, 250, 250), (20, 20, 20), 2)
            x += long + 7


def _shade(rng: random.Random, colour: tuple[int, int, int]) -> tuple[int, ...]:
    return tuple(max(0, min(255, channel + rng.randrange(-22, 23))) for channel in colour)
