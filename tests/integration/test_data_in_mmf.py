"""The data set as MMF sees it: every layout, every setting, and what reaches a model.

The model is a probe that notes its batches: what counts here is the input.
"""

import json
import multiprocessing
import re
import shutil
import tarfile

import pytest
import torch
from conftest import ROOT
from mmf.common.registry import registry
from mmf.models.base_model import BaseModel

from mmf_hm_concat.encoders.image_preprocessing import IMAGENET
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.cache import BLANK

pytestmark = pytest.mark.slow

HM = "dataset_config.hm_competition"
SIZE = 32
# MMF's own trainer, as far as it needs to be told otherwise than projects/concat/sample.yaml.
MMF_TRAINER = [
    "training.trainer=base_trainer",
    "training.num_workers=0",
    "training.lr_scheduler=false",
    "training.max_epochs=null",
    "training.early_stop.enabled=false",
    *(f"training.{name}_interval=100" for name in ("checkpoint", "evaluation", "log")),
]


class Probe(BaseModel):
    """A model like anybody's: it takes the floats it finds in `text` and `image`."""

    config_file = None
    seen: list = []  # noqa: RUF012

    @classmethod
    def config_path(cls):
        return cls.config_file

    def build(self):
        self.linear = torch.nn.Linear(150 + 3 * SIZE * SIZE, 2)

    def forward(self, batch):
        self.seen.append((batch.dataset_type, batch.id.clone(), batch.image.clone()))
        return {"scores": self.linear(torch.cat([batch.text, batch.image.flatten(1)], 1))}


@pytest.fixture
def probe(mmf, tmp_path, monkeypatch):
    """Run MMF with the probe; gives its batches: (split, ids, images)."""
    file = tmp_path / "probe.yaml"
    file.write_text("model_config: {probe: {losses: [{type: cross_entropy}]}}")
    monkeypatch.setattr(Probe, "config_file", str(file))
    registry.register_model("probe")(Probe)

    def run(*options, **more):
        Probe.seen.clear()
        mmf(tmp_path / "run", "model=probe", "training.max_updates=2", *options, **more)
        return list(Probe.seen)

    return run


def same(one, other):
    return len(one) == len(other) and all(
        (a[0], a[1].tolist()) == (b[0], b[1].tolist()) and torch.equal(a[2], b[2])
        for a, b in zip(one, other, strict=True)
    )


def by_id(seen):
    pairs = [zip(ids.tolist(), images, strict=True) for _, ids, images in seen]
    return {number: image for batch in pairs for number, image in batch}


def own_yaml(path, text):
    path.write_text(f"includes: [{ROOT}/projects/concat/sample.yaml]\n{text}\n")
    return f"config={path}"


def test_any_way_to_say_off_and_any_number_of_workers_give_the_same_tensors(probe, tmp_path):
    expected = probe(f"{HM}.cache_dir={tmp_path / 'auto'}")
    assert {image.dtype for _, _, image in expected} == {torch.float32}
    # What is decoded and what is fitted are both in the folder that was set.
    assert list((tmp_path / "auto").glob("images-*")) and list((tmp_path / "auto").glob("text-*"))
    assert same(probe("training.num_workers=2"), expected)
    assert not multiprocessing.active_children()  # left to themselves, they hold up the next run
    off = [f"{HM}.cache_dir={tmp_path / 'off'}"]
    for word in ("off", "'off'"):
        text = f"dataset_config: {{hm_competition: {{image_cache: {word}}}}}"
        assert same(probe(own_yaml(tmp_path / "own.yaml", text), *off), expected)
    for word in ("off", "False"):
        assert same(probe(f"{HM}.image_cache={word}", "training.num_workers=2", *off), expected)
    assert not list((tmp_path / "off").glob("images-*"))


def test_augmentation_is_yaml_works_from_the_cache_and_repeats(probe, tmp_path):
    steps = "[{type: RandomHorizontalFlip}, {type: RandomResizedCrop, params: {size: 32}}, \
    {type: ColorJitter, params: {brightness: 0.3}}]"
    text = f"dataset_config: {{hm_competition: {{processors: {{image_processor: {{params: \
    {{augment: {steps}}}}}}}}}}}"
    augment = own_yaml(tmp_path / "own.yaml", text)
    plain, augmented = probe(), probe(augment)
    assert same(probe(augment, f"{HM}.image_cache=off", "training.num_workers=2"), augmented)
    for (split, ids, image), (_, other_ids, other_image) in zip(plain, augmented, strict=True):
        assert ids.tolist() == other_ids.tolist()
        assert torch.equal(image, other_image) == (split != "train")
    assert not same(probe(augment, "training.seed=7"), augmented)


def test_mmfs_own_trainer_gets_the_same_floats(probe):
    expected = by_id(probe())
    found = probe(*MMF_TRAINER)
    assert {split for split, _, _ in found} >= {"train", "val"}
    assert {image.dtype for _, _, image in found} == {torch.float32}
    found = by_id(found)
    both = found.keys() & expected.keys()
    assert len(both) > 5 and all(torch.equal(found[i], expected[i]) for i in both)


def phase_2(sample, folder, *, archived=False):
    """Phase 2 from the sample: 500 seen and 540 unseen, 400 of them the same, with ids as ints."""
    memes = [json.loads(line) for line in (sample / "train.jsonl").open()]
    hateful = [meme["label"] for meme in memes]
    assert {0, 1} <= set(hateful)

    def write(name, numbers, labelled=True):
        lines = []
        for number in numbers:
            meme = {**memes[number % len(memes)], "id": number}
            if not labelled:
                del meme["label"]
            lines.append(json.dumps(meme))
        (folder / f"{name}.jsonl").write_text("\n".join(lines))

    folder.mkdir()
    write("train", range(2000, 2060))
    write("dev_seen", range(500))
    write("dev_unseen", range(100, 640))
    write("test_seen", range(1000, 1020))
    write("test_unseen", range(1020, 1050), labelled=False)
    if archived:
        with tarfile.open(folder / "img.tar.gz", "w:gz") as tar:
            tar.add(sample / "img", "img")
    else:
        (folder / "img").symlink_to(sample / "img")
    return f"{HM}.data_dir={folder}"


def test_phase_2_with_its_overlap_and_another_split_by_one_override(
    probe, sample, tmp_path, capsys
):
    data = phase_2(sample, tmp_path / "data", archived=True)
    seen = probe(data)
    assert "val: 640 memes; 400 more lines repeat one of them" in capsys.readouterr().out
    validated = [number for split, ids, _ in seen if split == "val" for number in ids.tolist()]
    assert sorted(set(validated)) == list(range(640))
    predicted = {number for _, ids, _ in probe(data, predict=True) for number in ids.tolist()}
    assert predicted == set(range(1020, 1050))
    other = probe(data, f"{HM}.splits.test=test_seen", predict=True)
    assert {number for _, ids, _ in other for number in ids.tolist()} == set(range(1000, 1020))


def test_what_mmf_convert_hm_made_is_found_in_mmfs_data_folder(probe, sample, tmp_path):
    made = tmp_path / "data" / "datasets" / "hateful_memes" / "defaults"
    (made / "annotations").mkdir(parents=True)
    for name in ("train", "dev", "test"):
        shutil.copy(sample / f"{name}.jsonl", made / "annotations")
    (made / "images").mkdir()
    (made / "images" / "img").symlink_to(sample / "img")
    default = f"{HM}.data_dir=data/hateful_memes"
    assert probe(default, f"env.data_dir={tmp_path / 'data'}")
    with pytest.raises(InputError, match="elsewhere does not exist"):  # and never in its place
        probe(f"{HM}.data_dir=elsewhere", f"env.data_dir={tmp_path / 'data'}")


def test_bad_pictures_stop_the_run_before_it_trains_or_are_grey(probe, sample, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(sample, data)
    memes = [json.loads(line) for line in (data / "train.jsonl").open()][:2]
    for meme in memes:
        (data / meme["img"]).write_bytes(b"no image")
    every = [
        f"{HM}.data_dir={data}",
        f"{HM}.balance=none",
        "training.max_updates=null",
        "training.max_epochs=1",
    ]
    with pytest.raises(InputError, match=r"2 of \d+ images[\s\S]*on_bad_image: blank"):
        probe(*every)
    assert not Probe.seen
    grey = IMAGENET.normalize(torch.full((1, 3, SIZE, SIZE), BLANK, dtype=torch.uint8))[0]
    for cache in ("auto", "off"):
        seen = probe(*every, f"{HM}.on_bad_image=blank", f"{HM}.image_cache={cache}")
        assert "2 of" in (output := capsys.readouterr().out) and memes[0]["img"] in output
        images = by_id(seen)
        assert all(torch.equal(images[int(meme["id"])], grey) for meme in memes)


@pytest.mark.parametrize(
    "option, message",
    [
        ("image_cache=atuo", "image_cache = 'atuo' .*: give auto or off. Did you mean auto"),
        ("image_cache=on", "image_cache = true .*: give auto or off"),
        ("drop_duplicates=maybe", "drop_duplicates = 'maybe' .*: give true or false"),
        ("use_images=2", "use_images = 2 .*: give true or false"),
        ("on_bad_image=skip", "on_bad_image = 'skip' .*: give error or blank"),
        ("image_size=0", "image_size = 0 .*: give a whole number from 1"),
        ("image_size=2.5", "image_size = 2.5 .*: give a whole number"),
        ("dev_limit=0", "dev_limit = 0"),
        ("sampling_seed=x", "sampling_seed = 'x'"),
        ("cache_dir=null", "cache_dir = null .*: give a folder"),
        ("data_dir=null", "data_dir = null .*: give a folder"),
        ("splits.val=nothing", r"no files for val(.|\n)*nothing\.jsonl"),
        ("processors.text_processor.type=fasttex", "no processor 'fasttex'. Did you mean fasttext"),
        ("processors.text_processor.params.dim=x", "dim = 'x'"),
        ("processors.text_processor.params.model_file=none.bin", "none.bin: no such file"),
    ],
)
def test_a_wrong_setting_of_the_data_is_named(probe, option, message):
    with pytest.raises(InputError, match=message):
        probe(f"{HM}.{option}")
    assert not Probe.seen


@pytest.mark.parametrize("option", ["num_workers=many", "num_workers=-1", "batch_size=0"])
def test_a_wrong_setting_of_the_loader_is_named(probe, option):
    key, value = option.split("=")
    with pytest.raises(
        InputError, match=rf"training.{key}.* = {re.escape(value)!r}|training.{key}.*= {value}"
    ):
        probe(f"training.{option}")


def test_a_model_with_eyes_needs_pictures(mmf, tmp_path):
    with pytest.raises(InputError, match="use_images"):
        mmf(tmp_path, f"{HM}.use_images=no")


def test_a_text_model_of_another_length_is_refused(probe, tmp_path):
    from mmf_hm_concat.encoders.fasttext_model import fit_text_model

    small = fit_text_model(["one two three"], dim=20, epochs=1, cache_dir=tmp_path)
    with pytest.raises(InputError, match=r"vectors of 20 numbers, but .*dim is 150"):
        probe(f"{HM}.processors.text_processor.params.model_file={small.path}")
