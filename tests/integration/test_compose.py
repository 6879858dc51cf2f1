"""Our parts with MMF's: its models on our data set, our model on its data sets and encoders."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from mmf_hm_concat import MemeClassifier
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training.checkpoints import FROZEN, load_checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 24
# A transformer of this width, in the words of MMF's YAML.
TINY_BERT = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
SMALL_NETWORK = ["model_config.concat_vl.vision.name=resnet18"]
SMALL_NETWORK.append("model_config.concat_vl.vision.weights=none")
# One update; SGD, because AdamW's state would make ResNet-152's checkpoints three times as large.
FEW = [
    "training.batch_size=6",
    "training.max_updates=1",
    "training.report=false",
    "training.num_workers=0",
    "training.precision=fp32",
    "optimizer.type=SGD",
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder with a BERT of one layer, as transformers saves it."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.txt").write_text("\n".join(words))
    config = BertConfig(len(words), intermediate_size=WIDTH, **TINY_BERT)
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def few(sample, tmp_path_factory):
    """Dataset files with few memes of the sample, in phase 1's layout."""
    folder = tmp_path_factory.mktemp("data") / "few"
    folder.mkdir()
    (folder / "img").symlink_to(sample / "img")
    for name, count in (("train", 24), ("dev", 8), ("test", 10)):
        lines = (sample / f"{name}.jsonl").read_text().splitlines()[:count]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def mmf_layout(few, tmp_path_factory):
    """`env.data_dir` as mmf_convert_hm fills it."""
    folder = tmp_path_factory.mktemp("mmf_data")
    base = folder / "datasets" / "hateful_memes" / "defaults"
    (base / "annotations").mkdir(parents=True)
    (base / "images").mkdir()
    (base / "images" / "img").symlink_to(few / "img")
    for path in few.glob("*.jsonl"):
        shutil.copy(path, base / "annotations")
    return folder


@pytest.fixture(scope="module")
def run(run_in_process):
    """`run(project, save_dir, "key=value", ...)` trains, `predict=True` predicts."""

    def start(project, save_dir, *options, predict=False):
        path = project if isinstance(project, Path) else f"projects/{project}.yaml"
        run_in_process([f"config={path}", f"env.save_dir={save_dir}", *FEW, *options], predict)

    return start


def data(folder):
    return f"dataset_config.hm_competition.data_dir={folder}"


def under_mmf(tmp_path, project, model, bert):
    """A YAML of one's own over the project's: MMF's smallest encoders instead of its default."""
    settings = {
        # The pixels themselves: 3 x 32 x 32.
        "modal_encoder": {"type": "default", "params": {"in_dim": 3072, "num_output_features": 1}},
        "modal_hidden_size": 3072,
    }
    path = tmp_path / "own.yaml"
    own = {"includes": [str(ROOT / "projects" / "mmf" / f"{project}.yaml")]}
    if model == "mmbt":  # it needs a sequence of features: ResNet-152 then
        settings = {"modal_encoder": {"params": {"pretrained": False}}, "freeze_modal": True}
    if model == "unimodal_text":
        settings = {}
    tokens = yaml.safe_load((ROOT / "projects" / "mmf" / f"{project}.yaml").read_text())
    if "bert_tokens.yaml" in tokens["includes"]:
        settings["bert_model_name"] = str(bert)
        settings["text_encoder"] = {"params": TINY_BERT}
        processor = {"text_processor": {"params": {"max_seq_length": 16}}}
        own["dataset_config"] = {"hm_competition": {"processors": processor}}
    path.write_text(yaml.safe_dump({**own, "model_config": {model: settings}}))
    return path


def check_submission(folder, few):
    submission = pd.read_csv(folder / "submission.csv")
    expected = [int(json.loads(line)["id"]) for line in (few / "test.jsonl").open()]
    assert list(submission.columns) == ["id", "proba", "label"]
    assert submission.id.tolist() == expected
    assert submission.proba.between(0, 1).all() and submission.proba.nunique() > 1


@pytest.mark.parametrize(
    ("project", "model"),
    [
        ("concat_bow", "concat_bow"),
        ("unimodal_image", "unimodal_image"),
        ("unimodal_text", "unimodal_text"),
        ("unimodal_bert", "unimodal_text"),
        ("concat_bert", "concat_bert"),
        ("late_fusion", "late_fusion"),
        ("mmbt", "mmbt"),
    ],
)
def test_models_of_mmf_train_and_predict_on_our_data_set(run, few, bert, tmp_path, project, model):
    path = under_mmf(tmp_path, project, model, bert)
    options = [data(few), "dataset_config.hm_competition.image_size=32"]
    run(path, tmp_path, *options)
    run(path, tmp_path, *options, predict=True)
    check_submission(tmp_path, few)


def test_a_yaml_and_the_trainer_of_mmf_run_on_our_data_set(run_in_process, few, bert, tmp_path):
    import mmf
    from mmf.common.registry import registry

    # Unlike ours, MMF's trainer goes on with what an earlier run in this process registered.
    for key in ("memes", "text_processor", "image_processor"):
        registry.unregister(f"hm_competition_{key}")
    tokens = {"tokenizer_config": {"type": str(bert), "params": {"do_lower_case": True}}}
    processor = {"type": "bert_tokenizer", "params": {**tokens, "max_seq_length": 16}}
    projects = Path(mmf.__file__).parent / "projects" / "hateful_memes" / "configs"
    options = [
        f"config={projects / 'unimodal' / 'bert.yaml'}",
        "model=unimodal_text",
        "dataset=hm_competition",
        "env.user_dir=mmf_hm_concat",
        f"env.save_dir={tmp_path}",
        data(few),
        "dataset_config.hm_competition.use_images=false",
        f"dataset_config.hm_competition.processors.text_processor={processor}",
        f"model_config.unimodal_text.bert_model_name={bert}",
        f"model_config.unimodal_text.text_hidden_size={WIDTH}",
        f"model_config.unimodal_text.text_encoder.params={TINY_BERT}",
        "training.max_updates=1",
        "training.batch_size=6",
        "training.num_workers=0",
        "training.early_stop.criteria=hm_competition/roc_auc",
        "checkpoint.save_git_details=false",
        "evaluation.predict_file_format=csv",
    ]
    run_in_process([*options, "run_type=train_val"])
    run_in_process([*options, "run_type=test"], predict=True)
    report = pd.read_csv(next(tmp_path.rglob("reports/*.csv")), dtype={"id": str})
    assert report.id.tolist() == [json.loads(x)["id"] for x in (few / "test.jsonl").open()]


def test_a_bert_that_is_not_there_is_one_message(run, few, tmp_path):
    (tmp_path / "bert").mkdir()
    path = under_mmf(tmp_path, "mmbt", "mmbt", tmp_path / "bert")
    with pytest.raises(InputError, match=r"hm_competition.processors.*pytorch_model.bin"):
        run(path, tmp_path / "run", data(few))


def test_a_bert_of_another_size_is_one_message_with_both_numbers(run, few, bert, tmp_path):
    path = under_mmf(tmp_path, "unimodal_bert", "unimodal_text", bert)
    option = "model_config.unimodal_text.text_encoder.params.hidden_size=36"
    with pytest.raises(InputError, match=r"(?s)model_config\.unimodal_text: .*24.*36"):
        run(path, tmp_path / "run", data(few), option)


def test_an_unknown_processor_is_named(run, few, tmp_path):
    option = "dataset_config.hm_competition.processors.text_processor.type=bert_tokeniser"
    with pytest.raises(InputError, match=r"bert_tokeniser'\. Did you mean bert_tokenizer"):
        run("concat/text_only", tmp_path, data(few), option)


def mmf_encoders(tmp_path, bert):
    language = {"params": {"bert_model_name": str(bert), **TINY_BERT}}
    own = {
        "includes": [str(ROOT / "projects/concat/mmf_encoders.yaml")],
        "model_config": {
            "concat_vl": {
                "language": {"mmf_encoder": language, "in_features": WIDTH, "freeze": "all"},
                "vision": {
                    "mmf_encoder": {"type": "default", "params": {"in_dim": 3072}},
                    "in_features": 3072,
                },
            }
        },
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    return tmp_path / "own.yaml"


def test_our_model_takes_encoders_of_mmf(run, few, bert, tmp_path):
    path = mmf_encoders(tmp_path, bert)
    options = [data(few), "dataset_config.hm_competition.image_size=32"]
    with pytest.raises(InputError, match=r"gives 24 numbers.*language.in_features is 25"):
        run(path, tmp_path, *options, "model_config.concat_vl.language.in_features=25")
    run(path, tmp_path, *options)
    run(path, tmp_path, *options, predict=True)
    check_submission(tmp_path, few)
    before = torch.load(bert / "pytorch_model.bin", weights_only=True)
    after = load_checkpoint(tmp_path / FROZEN)["model"]
    name = "encoder.layer.0.output.dense.weight"  # frozen
    assert torch.equal(after[f"network.language_module.network.{name}"], before[name])
    with pytest.raises(InputError, match="mmf_predict"):
        MemeClassifier.load(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["model_config.concat_vl.vision.mmf_encoder={'type': 'resnet9'}"], "resnet9"),
        (
            ["model_config.concat_vl.vision.mmf_encoder={'type':'default','params':{'in_dim':3}}"],
            "vision.in_features: say how many",
        ),
        (["model_config.concat_vl.vision.freeze={until: layer9}"], "no stage 'layer9'"),
        (["dataset_config.hm_competition.use_images=false"], "use_images=true, or .*vision=null"),
        (
            ["dataset_config.hm_competition.processors.text_processor=null"],
            "gives no text.*language=null",
        ),
    ],
)
def test_what_does_not_fit_together_names_the_keys(run, few, tmp_path, options, message):
    small = ["dataset_config.hm_competition.image_size=32"]
    with pytest.raises(InputError, match=message):
        run("concat/sample", tmp_path, data(few), *small, *options)


def test_single_modalities_need_nothing_of_the_other(run, few, tmp_path):
    for project, options in (
        ("text_only", []),
        ("image_only", ["dataset_config.hm_competition.image_size=32", *SMALL_NETWORK]),
    ):
        folder = tmp_path / project
        run(f"concat/{project}", folder, data(few), *options)
        run(f"concat/{project}", folder, data(few), *options, predict=True)
        check_submission(folder, few)
        keys = load_checkpoint(folder / "best.ckpt")["model"]
        branches = {key.split(".")[1] for key in keys} & {"language_module", "vision_module"}
        assert branches == {"language_module" if project == "text_only" else "vision_module"}
    assert not (tmp_path / "image_only" / "text_model.bin").exists()


def test_a_branch_can_be_left_out_on_the_command_line(run, few, tmp_path):
    run("concat/text_only", tmp_path / "yaml", data(few))
    options = [
        "model_config.concat_vl.vision=null",
        "dataset_config.hm_competition.use_images=false",
        "optimizer.params.lr=5e-5",
        "training.update_frequency=2",
    ]
    run("concat/sample", tmp_path / "command", data(few), *options)
    both = [load_checkpoint(tmp_path / name / "best.ckpt")["model"] for name in ("yaml", "command")]
    assert both[0].keys() == both[1].keys()
    with pytest.raises(InputError, match=r"concat_vl.vision is a group of keys .*vision=null"):
        run("concat/sample", tmp_path, "model_config.concat_vl.vision=resnet18")


def test_our_model_on_the_hateful_memes_of_mmf(run, few, mmf_layout, tmp_path):
    options = [f"env.data_dir={mmf_layout}", *SMALL_NETWORK]
    options.append("dataset_config.hateful_memes.processors.image_processor.params.size=32")
    run("concat/mmf_hateful_memes", tmp_path, *options)
    for split in ("train", "dev"):  # prediction needs the test split only
        (mmf_layout / f"datasets/hateful_memes/defaults/annotations/{split}.jsonl").write_text("")
    run("concat/mmf_hateful_memes", tmp_path, *options, predict=True)
    report = pd.read_csv(next(tmp_path.rglob("reports/hateful_memes_run_test_*.csv")))
    assert report.id.tolist() == [int(json.loads(x)["id"]) for x in (few / "test.jsonl").open()]
    assert report.proba.between(0, 1).all() and report.proba.nunique() > 1


def test_two_data_sets_at_once_resume_in_the_middle_of_an_epoch(
    run, few, mmf_layout, tmp_path, monkeypatch
):
    from mmf_hm_concat.mmf_plugin.trainer import ConcatTrainer

    options = [
        f"env.data_dir={mmf_layout}",
        data(few),
        "model_config.concat_vl.vision=null",
        "dataset_config.hm_competition.image_size=32",
        "dataset_config.hateful_memes.processors.image_processor.params.size=32",
        "training.update_frequency=1",
        "training.checkpoint_interval=1",
        "training.max_updates=9",  # 3 batches of ours and 4 of the other are an epoch
    ]
    run("concat/two_datasets", tmp_path / "whole", *options)
    update = ConcatTrainer._update

    def crash(self, *batches):
        if self.position.num_updates == 4:
            raise RuntimeError("power cut")
        update(self, *batches)

    monkeypatch.setattr(ConcatTrainer, "_update", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        run("concat/two_datasets", tmp_path / "cut", *options)
    monkeypatch.undo()
    run("concat/two_datasets", tmp_path / "cut", *options, "checkpoint.resume=true")
    whole, cut = (load_checkpoint(tmp_path / name / "current.ckpt") for name in ("whole", "cut"))
    assert whole["current_epoch"] == cut["current_epoch"] == 2
    assert all(torch.equal(whole["model"][key], cut["model"][key]) for key in whole["model"])
    assert whole["position"] == cut["position"]
    run("concat/two_datasets", tmp_path / "whole", *options, predict=True)
    check_submission(tmp_path / "whole", few)
    assert next((tmp_path / "whole").rglob("reports/hateful_memes_run_test_*.csv"))
