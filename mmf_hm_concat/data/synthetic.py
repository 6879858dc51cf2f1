"""A sample of generated memes in the competition's layout, to try everything without its data.

An image is one of two scenes, sunny or rainy; a text has one of two moods, cheerful or gloomy. A
meme counts as hateful when its words contradict its image: the label is the exclusive-or of
scene and mood. Both together tell everything, one alone nothing, because each scene and each mood
has exactly the same share of hateful memes. The caption drawn into an image is bars without
words, so that it does not give the mood away.

As in the real data, hateful memes have benign confounders: they come in groups of four, two
images and two texts, each image with each text. A model of one modality gives both memes with
the same image (or text) the same probability, and one of the two is hateful: on dev and test,
which are such groups alone, its AUROC is 0.5 whatever it has learnt.
"""

import json
import math
import random
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from mmf_hm_concat.errors import InputError

# Written last, so a folder with it holds a whole sample. Raise the number to change the content.
MARKER, VERSION = "sample.json", 2
# Share of all memes, and the part of it that is groups of four, which are half hateful; the rest
# is benign. So 36% of train and 50% of dev and test are hateful, as in the real data.
SPLITS = {"train": (0.7, 0.72), "dev": (0.12, 1.0), "test": (0.18, 1.0)}
# The real data has five digits, some of them leading zeros.
NUMBERS = range(1000, 100_000)
SCENES, MOODS = ("sunny", "rainy"), ("cheerful", "gloomy")
MODES = ("RGB", "RGB", "RGB", "RGBA", "P", "L")

WORDS = {
    "cheerful": {
        "mood": "happy glad joyful merry delighted cheerful grateful proud",
        "kind": "sweet lovely perfect wonderful brilliant golden fantastic sparkling",
        "thing": "laughter music dancing cake friendship dessert holidays kittens",
        "act": "smiling singing laughing hugging celebrating cheering",
    },
    "gloomy": {
        "mood": "sad lonely tired bored miserable sorry anxious grumpy",
        "kind": "bitter awful dreadful horrible hopeless dull terrible dreary",
        "thing": "homework housework traffic cleaning paperwork boredom mondays headaches",
        "act": "sighing crying moaning sobbing complaining yawning",
    },
}
FRAMES = (
    "{mood} and {act} again, {kind} {thing} and {kind2} {thing2}",
    "when {kind} {thing} keeps you {act} and {mood} all week",
    "{kind} day: {thing}, {thing2}, everybody {act}",
    "me, {mood} and {mood2}, {act} because of {kind} {thing}",
    "{thing} and {thing2}, so {kind}, so {mood}",
    "my {mood} cousin {act} about {kind} {thing}",
    "another {kind} morning, {act} and {mood2} with {thing}",
    "{act} and {act2} all day, {mood}, thanks to {kind} {thing}",
)


def make_sample(out: Path, *, memes: int = 1000, seed: int = 0) -> None:
    """Make a sample in ``out``: train.jsonl, dev.jsonl, test.jsonl, img/ and test_truth.csv.

    The same arguments give the same annotations, byte for byte, and with the same Pillow the same
    images. A folder that already holds this very sample is left as it is.

    Args:
        out: a new or empty folder; it appears when the sample is whole.
        memes: about how many, all splits together: 40 to 20,000.
        seed: another seed, other memes.

    Raises:
        InputError: too few memes or too many, ``out`` holds something else or cannot be written.
    """
    marker_text = json.dumps({"version": VERSION, "memes": memes, "seed": seed}) + "\n"
    if not 40 <= memes <= 20_000:
        raise InputError(f"A sample has 40 to 20000 memes, not {memes}.")
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            marker = out / MARKER
            if marker.is_file() and marker.read_bytes() == marker_text.encode():
                print(f"{out} already holds this sample.")
                return
            raise InputError(
                f"{out} exists and is not this sample. Name another folder, or remove it."
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".sample-") as folder:
            made = Path(folder) / "sample"
            (made / "img").mkdir(parents=True)
            count = _write(made, memes, f"{VERSION}-{seed}")
            (made / MARKER).write_text(marker_text)
            made.replace(out)  # which may be an empty folder
    except OSError as error:
        raise InputError(f"{out}: the sample cannot be written there ({error}).") from None
    others = "" if count == memes else f" ({memes} do not go into whole groups of four and pairs)"
    print(f"Made {count} memes in {out}{others}.")


def _write(out: Path, memes: int, salt: str) -> int:
    rng = random.Random(salt)
    plans = {s: _plan(s, round(memes * share), part) for s, (share, part) in SPLITS.items()}
    count = sum(map(len, plans.values()))
    numbers = iter(rng.sample(NUMBERS, count))
    for split, plan in plans.items():
        rng.shuffle(plan)  # or the order would tell the kind
        rows = []
        drawn: dict[str, Path] = {}
        for scene, image, mood, text in plan:
            name = f"{next(numbers):05d}"
            file = out / f"img/{name}.png"
            if image in drawn:
                file.write_bytes(drawn[image].read_bytes())
            else:
                draw_image(scene, random.Random(f"{salt}-{image}")).save(file)
                drawn[image] = file
            caption = make_text(mood, random.Random(f"{salt}-{text}"))
            label = int(SCENES.index(scene) != MOODS.index(mood))
            rows.append({"id": name, "img": f"img/{name}.png", "label": label, "text": caption})
        if split == "test":
            lines = [f"{row['id']},{row.pop('label')}\n" for row in rows]
            (out / "test_truth.csv").write_bytes("".join(["id,label\n", *lines]).encode())
        lines = [json.dumps(row) + "\n" for row in rows]
        (out / f"{split}.jsonl").write_bytes("".join(lines).encode())
    return count


def _plan(split: str, memes: int, grouped: float) -> list[tuple[str, str, str, str]]:
    """(scene, which image, mood, which text) of about ``memes`` memes."""
    groups, pairs = round(memes * grouped / 4), round(memes * (1 - grouped) / 2)
    rows = []
    for number in range(groups + pairs):
        for scene, agreeing in zip(SCENES, MOODS, strict=True):
            # A pair: a benign meme of each scene, sharing nothing with any other.
            for mood in MOODS if number < groups else (agreeing,):
                rows.append((scene, f"{split}-{scene}-{number}", mood, f"{split}-{mood}-{number}"))
    return rows


def make_text(mood: str, rng: random.Random) -> str:
    """A lower-case caption of 7 to 11 words."""
    slots = {}
    for name, words in WORDS[mood].items():
        slots[name], slots[f"{name}2"] = rng.sample(words.split(), 2)
    return rng.choice(FRAMES).format(**slots)


def draw_image(scene: str, rng: random.Random) -> Image.Image:
    """An image of 160 to 320 pixels a side (the real ones: 400 to 900), in one of several modes.

    The scene shows in brightness, too, so it survives in grey and in 64 colours.
    """
    width, height = rng.randrange(160, 321), rng.randrange(160, 321)
    w, h = 2 * width, 2 * height  # drawn at twice the size, for smooth edges
    horizon = int(h * rng.uniform(0.5, 0.7))
    sunny = scene == "sunny"
    top, bottom = ((60, 140, 225), (190, 225, 250)) if sunny else ((22, 26, 44), (82, 86, 104))
    image = ImageOps.colorize(
        Image.linear_gradient("L").resize((w, h)), _shade(rng, top), _shade(rng, bottom)
    )
    draw = ImageDraw.Draw(image)
    rng.choice(SUNNY if sunny else RAINY)(draw, rng, w, h, horizon)
    _caption(draw, rng, w, h)
    image, mode = image.reduce(2), rng.choice(MODES)
    return image.quantize(64) if mode == "P" else image.convert(mode)


Draw = ImageDraw.ImageDraw
Colour = tuple[int, int, int]


def _beach(draw: Draw, rng: random.Random, w: int, h: int, horizon: int) -> None:
    _sun_and_clouds(draw, rng, w, horizon)
    shore = int(horizon + (h - horizon) * rng.uniform(0.25, 0.5))
    draw.rectangle([0, horizon, w, shore], _shade(rng, (45, 150, 200)))
    draw.rectangle([0, shore, w, h], _shade(rng, (238, 214, 150)))
    x, size = rng.randrange(w // 8, w - w // 8), h // 12  # sailing boat
    draw.polygon([(x - size, horizon), (x + size, horizon), (x, horizon - 2 * size)], "white")
    draw.chord([x - size, horizon - size // 2, x + size, horizon + size], 0, 180, (180, 60, 50))
    x, size = rng.randrange(w // 5, w - w // 5), h // 6  # a parasol
    draw.line([(x, shore - size // 3), (x, shore + size)], (120, 80, 50), 6)
    _ball(draw, x, shore, size, _bright(rng), 180)


def _meadow(draw: Draw, rng: random.Random, w: int, h: int, horizon: int) -> None:
    _sun_and_clouds(draw, rng, w, horizon)
    for green in ((120, 195, 95), (95, 180, 80), (80, 165, 70)):  # hills
        x, size = rng.randrange(w), rng.randrange(w // 3, w)
        draw.ellipse([x - size, horizon - h // 8, x + size, h * 2], _shade(rng, green))
    draw.rectangle([0, horizon + h // 12, w, h], _shade(rng, (105, 190, 80)))
    for _ in range(rng.randrange(1, 4)):  # trees
        x, size = rng.randrange(w), rng.randrange(h // 16, h // 9)
        draw.rectangle([x - 6, horizon - size, x + 6, horizon + 2 * size], (120, 85, 55))
        _ball(draw, x, horizon - size, size, _shade(rng, (60, 145, 65)))
    for _ in range(rng.randrange(12, 30)):  # flowers
        y = rng.randrange(horizon + h // 10, h)
        _ball(draw, rng.randrange(w), y, rng.randrange(5, 10), _bright(rng))


def _balloons(draw: Draw, rng: random.Random, w: int, h: int, horizon: int) -> None:
    _sun_and_clouds(draw, rng, w, horizon)
    peaks = [(x, horizon - rng.randrange(h // 6)) for x in range(0, w + w // 5, w // 5)]
    draw.polygon([(0, h), *peaks, (w, h)], _shade(rng, (130, 160, 190)))
    draw.rectangle([0, horizon + h // 10, w, h], _shade(rng, (150, 200, 100)))
    for _ in range(rng.randrange(2, 5)):
        x, y, size = rng.randrange(w), rng.randrange(h // 5, horizon), rng.randrange(24, 52)
        draw.polygon([(x - size, y), (x + size, y), (x, y + 2 * size)], _bright(rng))
        _ball(draw, x, y, size, _bright(rng))


def _street(draw: Draw, rng: random.Random, w: int, h: int, horizon: int) -> None:
    _clouds(draw, rng, w, horizon, (60, 64, 80))
    x = 0
    while x < w:  # houses with a few lit windows
        right, top = x + rng.randrange(50, 120), horizon - rng.randrange(h // 8, h // 3)
        draw.rectangle([x, top, right, horizon], _shade(rng, (52, 52, 66)))
        for wx in range(x + 10, right - 14, 24):
            for wy in range(top + 12, horizon - 20, 28):
                if rng.random() < 0.3:
                    draw.rectangle([wx, wy, wx + 10, wy + 14], (240, 200, 110))
        x = right + rng.randrange(0, 20)
    draw.rectangle([0, horizon, w, h], _shade(rng, (40, 44, 52)))
    _rain(draw, rng, w, h)


def _storm(draw: Draw, rng: random.Random, w: int, h: int, horizon: int) -> None:
    _clouds(draw, rng, w, horizon, (50, 54, 70))
    x, y = rng.randrange(w // 4, w - w // 4), h // 6
    while y < horizon:  # lightning
        end = x + rng.randrange(-30, 31), y + rng.randrange(20, 50)
        draw.line([(x, y), end], (235, 230, 180), 5)
        x, y = end
    draw.rectangle([0, horizon, w, h], _shade(rng, (28, 48, 66)))
    for _ in range(rng.randrange(10, 24)):  # waves
        x, y, size = rng.randrange(w), rng.randrange(horizon, h), rng.randrange(20, 60)
        draw.arc([x - size, y, x + size, y + size], 200, 340, (96, 116, 132), 5)
    _rain(draw, rng, w, h)


def _woods(draw: Draw, rng: random.Random, w: int, h: int, horizon: int) -> None:
    _clouds(draw, rng, w, horizon, (56, 60, 76))
    draw.rectangle([0, horizon, w, h], _shade(rng, (36, 46, 44)))
    for _ in range(rng.randrange(5, 11)):  # firs
        x, y, size = rng.randrange(w), rng.randrange(horizon, h), rng.randrange(h // 7, h // 3)
        green = _shade(rng, (34, 78, 66))
        for part in (0, 1, 2):
            top, half = y - size + part * size // 4, size // 12 * (part + 1) + 6
            foot = top + size // 2
            draw.polygon([(x - half, foot), (x + half, foot), (x, top)], green)
    _rain(draw, rng, w, h)


SUNNY, RAINY = (_beach, _meadow, _balloons), (_street, _storm, _woods)


def _sun_and_clouds(draw: Draw, rng: random.Random, w: int, horizon: int) -> None:
    size = rng.randrange(28, 60)
    x, y = rng.randrange(size, w - size), rng.randrange(size, max(size + 1, horizon - size))
    for ray in range(12):
        angle = ray * math.pi / 6
        end = (x + int(1.7 * size * math.cos(angle)), y + int(1.7 * size * math.sin(angle)))
        draw.line([(x, y), end], (255, 232, 130), 6)
    _ball(draw, x, y, size, (255, 214, 60))
    _clouds(draw, rng, w, horizon, (240, 245, 250))


def _clouds(draw: Draw, rng: random.Random, w: int, horizon: int, colour: Colour) -> None:
    for _ in range(rng.randrange(2, 5)):
        x, y = rng.randrange(w), rng.randrange(horizon // 2)
        for puff in range(4):
            _ball(draw, x + 26 * puff, y + rng.randrange(-10, 11), rng.randrange(18, 32), colour)


def _rain(draw: Draw, rng: random.Random, w: int, h: int) -> None:
    for _ in range(rng.randrange(70, 150)):
        x, y, size = rng.randrange(w), rng.randrange(h), rng.randrange(14, 30)
        draw.line([(x, y), (x - size // 3, y + size)], (140, 152, 176), 3)


def _caption(draw: Draw, rng: random.Random, w: int, h: int) -> None:
    """Bars where a meme has its words: one line above, one below."""
    for y in (14, h - 46):
        bars = [rng.randrange(30, 90) for _ in range(rng.randrange(2, 5))]
        x = (w - sum(bars) - 14 * (len(bars) - 1)) // 2
        for bar in bars:
            draw.rounded_rectangle([x, y, x + bar, y + 30], 10, (250, 250, 250), (20, 20, 20), 4)
            x += bar + 14


def _ball(draw: Draw, x: int, y: int, r: int, colour: Colour, start: int = 0) -> None:
    draw.pieslice([x - r, y - r, x + r, y + r], start, 360, colour)


def _bright(rng: random.Random) -> Colour:
    return rng.choice(((230, 60, 80), (250, 205, 60), (245, 245, 250), (200, 90, 215)))


def _shade(rng: random.Random, colour: Colour) -> Colour:
    """The colour a little changed: a dark one less, or it would turn into another."""
    most = 4 + max(colour) // 16
    red, green, blue = (min(255, part + rng.randint(-most, most)) for part in colour)
    return red, green, blue
