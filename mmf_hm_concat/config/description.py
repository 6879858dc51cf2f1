"""What every key of a config means: its type, range, choices, unit, and one line of explanation.

Defaults are in the YAML files (configs/, MMF's defaults.yaml), not here; a test holds the two
together. Keys of MMF's own models and data sets are MMF's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta

from mmf_hm_concat.config.kinds import BUILT, GROUP, number, text, whole

FOLDER, FILE = text("a folder"), text("a file")
OPTIONAL_FOLDER = Annotated[str, Meta(extra={"what": "a folder"})] | None
NAME: Any = text("a name")
NAMES: Any = Annotated[list[NAME | BUILT], Meta(min_length=1)]
UPDATES: Any = list[whole(0)]  # type: ignore[misc]
FREEZE = (
    Literal["none", "all", "bn"]
    | Annotated[dict[str, str], Meta(extra={"what": "{until: <a stage>}"})]
    | None
)
FEATURES_FILE = text("an .npz or .parquet file") | None
RUN_PARTS = "(train|val|test|inference|predict)"
# Wider layers than any model needs would only fill the memory.
WIDTH, LENGTH, PIXELS = whole(1, 8192), whole(1, 65536), whole(1, 4096, "pixels")


@dataclass(frozen=True)
class Key:
    """One key of the config.

    Attributes:
        kind: its type, see kinds.py; `GROUP` for a group of keys that is no plain one.
        help: one line of explanation.
        is_open: whether the group may hold keys that are not described.
    """

    kind: Any
    help: str
    is_open: bool = False


OF_TRAINING: dict[str, Key] = {
    "trainer": Key(text("a trainer"), "The training loop: concat_trainer, or one of MMF's."),
    "seed": Key(
        whole(-1, 2**32 - 1) | None,
        "Same seed, data and machine: the same weights. -1: another each time; null: none.",
    ),
    "experiment_name": Key(
        Annotated[str, Meta(pattern=r"^[^/\0]*$", extra={"what": "text without /"})],
        "Part of the name of MMF's report file.",
    ),
    "max_updates": Key(whole(unit="updates") | None, "Training ends after so many; null: never."),
    "max_epochs": Key(whole(unit="epochs") | None, "Training ends after so many; null: never."),
    "log_interval": Key(
        whole(unit="updates"), "TensorBoard and Weights & Biases get the loss this often."
    ),
    "logger_level": Key(
        Literal["debug", "info", "warning", "error", "critical"], "The least that is logged."
    ),
    "log_format": Key(Literal["simple", "json"], "How lines of the log are written."),
    "log_detailed_config": Key(bool, "MMF's own trainers log the whole config."),
    "should_not_log": Key(bool, "MMF's own trainers log nothing."),
    "stdout_capture": Key(bool, "Send all output to the log file, none to the terminal."),
    "tensorboard": Key(bool, "Write losses and metrics for TensorBoard."),
    "batch_size": Key(whole(unit="samples"), "In one batch, over all devices."),
    "num_workers": Key(
        whole(0, unit="processes") | Literal["auto"],
        "Load batches in so many processes; auto: as many as help. At most 4 a core.",
    ),
    "fast_read": Key(bool, "MMF's data sets read everything into memory first."),
    "dataset_size_proportional_sampling": Key(
        bool, "Draw from several data sets in proportion to their sizes, not evenly."
    ),
    "pin_memory": Key(bool, "MMF's own loaders pin memory (concat_trainer's do, on a GPU)."),
    "checkpoint_interval": Key(
        whole(unit="updates") | None, "Save within an epoch this often, too; null: at its end only."
    ),
    "evaluation_interval": Key(whole(unit="updates"), "MMF's own trainers validate this often."),
    "clip_gradients": Key(bool, "Shorten gradients longer than max_grad_l2_norm."),
    "clip_norm_mode": Key(Literal["all", "question"], "What MMF's own trainers clip."),
    "max_grad_l2_norm": Key(
        number(above=0) | None, "Longest gradient that clip_gradients lets through; null: any."
    ),
    "early_stop.enabled": Key(bool, "Stop when the criterion no longer improves."),
    "early_stop.patience": Key(whole(unit="epochs"), "So long without an improvement is too long."),
    "early_stop.criteria": Key(
        text("<data set>/<metric>, <data set>/loss or total_loss"),
        "The value on the validation split that makes a checkpoint the best.",
    ),
    "early_stop.minimize": Key(bool, "Whether less of the criterion is better."),
    "early_stop.min_delta": Key(number(0), "The least change that is an improvement."),
    "lr_scheduler": Key(bool, "Change the learning rate as the scheduler says."),
    "lr_steps": Key(UPDATES, "MMF's scheduler pythia lowers the rate at these updates."),
    "lr_ratio": Key(number(above=0), "MMF's scheduler pythia multiplies the rate by it."),
    "use_warmup": Key(bool, "MMF's scheduler pythia begins with a low rate."),
    "warmup_factor": Key(number(0), "That low rate, as a multiple of the full one."),
    "warmup_iterations": Key(whole(unit="updates"), "How long until the full rate."),
    "device": Key(
        Literal["cuda", "cuda:0", "cpu"],
        "cuda is the CPU where there is no GPU; CUDA_VISIBLE_DEVICES chooses among several GPUs.",
    ),
    "local_rank": Key(whole(0) | None, "The GPU of this process; set by MMF."),
    "verbose_dump": Key(bool, "MMF logs more about its data sets."),
    "find_unused_parameters": Key(bool, "Allow parameters without a gradient on several devices."),
    "evaluate_metrics": Key(bool, "MMF's own trainers compute the metrics while training."),
    "precision": Key(
        Literal["auto", "fp32", "bf16", "fp16"],
        "Number format of the network; auto: the device's fastest that trains well.",
    ),
    "update_frequency": Key(
        whole(unit="batches"), "Add up the gradients of so many before the weights change."
    ),
    "compile": Key(bool, "Compile the network: slower start, faster steps on a GPU."),
    "detect_anomaly": Key(bool, "Search for the operation that gives NaN (several times slower)."),
    "wandb": Key(bool, "Log losses and metrics to Weights & Biases (pip install wandb)."),
    "report": Key(bool, "End with the page of `hm_concat report`, in env.save_dir."),
    "sync_batch_norm": Key(bool, "Batch norms see the whole batch on several GPUs."),
}

OF_EVALUATION: dict[str, Key] = {
    "metrics": Key(list[NAME | BUILT] | text("one name"), "Metrics of MMF's registry, by name."),
    "predict": Key(bool, "Predict the test split; mmf_predict sets it."),
    "predict_file_format": Key(Literal["csv", "json"], "Of MMF's report file."),
    "predict_file": Key(
        FILE | None, "Where the submission goes, from the current folder; null: into env.save_dir."
    ),
    "threshold": Key(number(above=0, most=1), "Hateful from this probability on."),
    "id_format": Key(Literal["number", "padded"], "ids in the submission: 1236, or 01236."),
}

OF_CHECKPOINT: dict[str, Key] = {
    "resume": Key(bool, "Go on with the run in env.save_dir."),
    "resume_file": Key(FILE | None, "Start from this checkpoint."),
    "resume_best": Key(bool, "Go on with the best checkpoint, not the newest."),
    "resume_pretrained": Key(bool, "Take the weights only."),
    "resume_zoo": Key(
        Annotated[None, Meta(extra={"what": "null (a file goes into resume_file)"})],
        "MMF's zoo has no model that concat_trainer can resume.",
    ),
    "zoo_config_override": Key(
        bool, "MMF's own trainers take the zoo's model config; concat_trainer: false."
    ),
    "pretrained_state_mapping": Key(
        Annotated[dict[str, str], Meta(extra={"what": "{<name here>: <name in the file>}"})],
        "Take over parameters under other names.",
        is_open=True,
    ),
    "save_git_details": Key(bool, "MMF's own trainers note the commit."),
    "reset.all": Key(bool, "Keep the weights of the checkpoint only."),
    "reset.optimizer": Key(bool, "Start with a fresh optimizer."),
    "reset.counts": Key(bool, "Count epochs and updates from zero."),
    "keep_last": Key(whole(0, unit="epochs"), "Keep the checkpoints of the last ones in models/."),
}

OF_ENV: dict[str, Key] = {
    "cache_dir": Key(FOLDER, "Downloads, and what is extracted, decoded or fitted."),
    "dataset_zoo": Key(FILE, "MMF's list of data sets."),
    "model_zoo": Key(FILE, "MMF's list of models."),
    "data_dir": Key(FOLDER, "Where MMF's own data sets are."),
    "save_dir": Key(FOLDER, "Everything that a run leaves."),
    "log_dir": Key(OPTIONAL_FOLDER, "The log; empty: logs/ in save_dir."),
    "report_dir": Key(
        OPTIONAL_FOLDER,
        "MMF's report file, too, of hm_competition; empty: of others only, in save_dir.",
    ),
    "tensorboard_logdir": Key(OPTIONAL_FOLDER, "For TensorBoard; empty: logs/ in save_dir."),
    "user_dir": Key(OPTIONAL_FOLDER, "The plug-in: mmf_hm_concat."),
}

OF_DISTRIBUTED: dict[str, Key] = {
    "init_method": Key(text("a URL as tcp://host:port") | None, "How the processes meet."),
    "rank": Key(whole(0) | None, "Number of this process."),
    "port": Key(whole(-1, 65535), "Of the meeting place; -1: any."),
    "backend": Key(Literal["nccl", "gloo", "mpi"], "What carries their messages."),
    "world_size": Key(whole(unit="processes"), "All of them; one a GPU."),
    "no_spawn": Key(bool, "Start no process for a second GPU."),
}

OF_MODEL: dict[str, Key] = {
    "language": Key(GROUP | None, "The text branch; null leaves it out."),
    "language.name": Key(
        text("fasttext, wordllama or open_clip/NAME"), "The text encoder, its library first."
    ),
    "language.encoder": Key(text("a text encoder"), "Where the name has no library: its class."),
    "language.weights": Key(
        text("DEFAULT, a tag, a file, local-dir:FOLDER or none") | None,
        "Of open_clip's text tower, as vision.weights.",
    ),
    "language.in_features": Key(LENGTH, "Length of fastText's sentence vectors."),
    "language.out_features": Key(WIDTH, "Width of the text branch."),
    "language.mmf_encoder": Key(BUILT | None, "A text encoder of MMF before the Linear.", True),
    "language.freeze": Key(FREEZE, "What of the text tower or MMF's encoder is not trained."),
    "language.features_file": Key(
        FEATURES_FILE, "Instead of a text encoder: a vector for each sample, by its id."
    ),
    "vision": Key(GROUP | None, "The image branch; null leaves it out."),
    "vision.encoder": Key(text("an image encoder"), "Where the name has no library: torchvision."),
    "vision.name": Key(
        text("NAME (of torchvision), timm/NAME or open_clip/NAME"),
        "The image network, its library first.",
    ),
    "vision.weights": Key(
        text("DEFAULT, a tag, a file, local-dir:FOLDER or none") | None,
        "Pretrained (DEFAULT or the library's tag), from a state dict, or random (none).",
    ),
    "vision.freeze": Key(FREEZE, "What stays as it was: bn is the batch norms."),
    "vision.out_features": Key(WIDTH, "Width of the image branch."),
    "vision.mmf_encoder": Key(BUILT | None, "An image encoder of MMF instead.", True),
    "vision.in_features": Key(
        whole(1, 2**18) | None, "How many numbers that encoder gives an image."
    ),
    "vision.features_file": Key(
        FEATURES_FILE, "Instead of an image encoder: a vector for each sample, by its id."
    ),
    "standardize_text": Key(bool, "Scale sentence vectors by the training texts' mean and std."),
    "projection_dropout": Key(number(0, below=1), "Dropout of each branch's output."),
    "fusion": Key(
        text("a fusion"),
        "How the branches are joined: concat, concat_normalized, product or cross.",
    ),
    "fusion_dropout": Key(number(0, below=1), "Dropout of the joined features."),
    "head_layers": Key(whole(0, 64, "layers"), "Hidden layers before the logits."),
    "fusion_features": Key(WIDTH, "Width of each."),
    "dropout": Key(number(0, below=1), "Dropout of their output."),
    "num_classes": Key(whole(2, 8192), "2: benign and hateful."),
    "pretrained_lr_scale": Key(
        number(0), "Learning rate of pretrained encoders, as a multiple of optimizer.params.lr."
    ),
    "losses": Key(NAMES, "MMF's losses, each {type: ...}."),
}

OF_DATASET: dict[str, Key] = {
    "data_dir": Key(text("a folder or a .zip"), "The data set, as it was got."),
    "splits.train": Key(text("names of files"), "Annotation files to train on, as a+b or c."),
    "splits.val": Key(text("names of files"), "Annotation files to validate on."),
    "splits.test": Key(text("names of files"), "Annotation files to predict."),
    "zip_password": Key(text() | None, "Of the .zip; HM_ZIP_PASSWORD is safer."),
    "cache_dir": Key(FOLDER, "What is extracted, decoded or fitted, for later runs."),
    "balance": Key(
        Literal["none", "undersample", "oversample", "weights"] | None,
        "How the classes of the training split are evened out.",
    ),
    "dev_limit": Key(whole(unit="samples") | None, "Train on so many only; null: on all."),
    "sampling_seed": Key(whole(-(2**63), 2**63 - 1), "Draws for balance and dev_limit."),
    "drop_duplicates": Key(bool, "Leave out training samples that occur twice."),
    "use_images": Key(bool, "Whether the model sees images at all."),
    "image_size": Key(
        PIXELS | Literal["auto"], "Side of the square that images become; auto: the encoder's."
    ),
    "image_cache": Key(Literal["auto", "off"], "auto: decode each image once, and keep it."),
    "on_bad_image": Key(
        Literal["error", "blank"], "An image that cannot be read ends the run, or becomes grey."
    ),
    "processors": Key(GROUP, "What makes tensors of a sample.", True),
    "processors.text_processor": Key(GROUP | None, "Of the text; null: none."),
    "processors.text_processor.type": Key(text("a processor"), "By the name in MMF."),
    "processors.text_processor.params": Key(GROUP | None, "Of that processor.", True),
    "processors.image_processor": Key(GROUP | None, "Of the image; null: none."),
    "processors.image_processor.type": Key(text("a processor"), "By the name in MMF."),
    "processors.image_processor.params": Key(GROUP | None, "Of that processor.", True),
}

# Params of our processors, in any data set.
OF_PROCESSORS: dict[str, dict[str, Key]] = {
    "fasttext_sentence_vector": {
        "dim": Key(LENGTH, "Length of the sentence vectors."),
        "model": Key(Literal["cbow", "skipgram"], "What fastText fits on the training texts."),
        "model_file": Key(
            FILE | None, "Instead of fitting: a fastText .bin, or a .vec or GloVe .txt."
        ),
        "annotations": Key(
            Annotated[dict[str, list[str] | str], Meta(extra={"what": "{<split>: <files>}"})]
            | None,
            "Texts to fit on, for data sets that do not hand them over.",
            is_open=True,
        ),
    },
    "resnet_image": {
        "size": Key(
            PIXELS | Literal["auto"], "Side of the square that images become; auto: the encoder's."
        ),
        "augment": Key(list[BUILT], "Random changes of training images, of torchvision v2."),
    },
}

OUR_MODEL, OUR_DATASET = "model_config.concat_vl", "dataset_config.hm_competition"


def _under(prefix: str, keys: Mapping[str, Key]) -> dict[str, Key]:
    return {f"{prefix}.{name}": key for name, key in keys.items()}


KEYS: dict[str, Key] = {
    "model": Key(text("a model"), "concat_vl, or a model of MMF."),
    "datasets": Key(text("a data set, or several with commas"), "hm_competition, or MMF's."),
    "run_type": Key(
        text("train, val, test or inference, joined by _", rf"^{RUN_PARTS}([_+]{RUN_PARTS})*$"),
        "What to do: train, and validate or test.",
    ),
    "config": Key(FILE | None, "The YAML file; given on the command line."),
    "config_version": Key(number(), "Of MMF."),
    "optimizer.type": Key(text("an optimizer"), "Of torch.optim or MMF."),
    "optimizer.params": Key(GROUP, "Arguments of the optimizer.", True),
    "optimizer.params.lr": Key(number(0), "Learning rate; 0 changes nothing."),
    "scheduler.type": Key(
        text("a scheduler"),
        "reduce_on_plateau, by epoch; warmup_linear or warmup_cosine of MMF, by update.",
    ),
    "scheduler.params": Key(GROUP, "Arguments of the scheduler.", True),
    **_under("training", OF_TRAINING),
    **_under("evaluation", OF_EVALUATION),
    **_under("checkpoint", OF_CHECKPOINT),
    **_under("env", OF_ENV),
    **_under("distributed", OF_DISTRIBUTED),
    **_under(OUR_MODEL, OF_MODEL),
    **_under(OUR_DATASET, OF_DATASET),
    **_under(
        f"{OUR_DATASET}.processors.text_processor.params",
        OF_PROCESSORS["fasttext_sentence_vector"],
    ),
    **_under(f"{OUR_DATASET}.processors.image_processor.params", OF_PROCESSORS["resnet_image"]),
}
