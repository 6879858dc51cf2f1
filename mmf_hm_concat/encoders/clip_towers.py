"""Image and text encoders of open_clip: `vision.name` and `language.name: open_clip/NAME`.

Each branch builds the model and keeps its own tower. The features are the pooled ones *before* the
tower's projection into CLIP's common space (of ViT-L-14: 1024 of an image, 768 of a text), as
Hate-CLIPper takes them (Kumar and Nandakumar, 2022, arXiv:2210.05916).

Models whose text tower or tokenizer comes from Hugging Face need a newer transformers than MMF's;
they are refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mmf_hm_concat.config.check import unknown
from mmf_hm_concat.encoders.base import Encoder
from mmf_hm_concat.encoders.image_preprocessing import ImagePreprocessing
from mmf_hm_concat.encoders.libraries import library, quiet, version
from mmf_hm_concat.encoders.weights import LOCAL_FOLDER, check_file, local_folder, read_weights
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.utils.files import sha256

FOLDER_CONFIG = "open_clip_config.json"
# The suffix of a name whose network has OpenAI's activation.
QUICK = "-quickgelu"


class ClipImageEncoder(Encoder):
    """The image tower of a CLIP model, and a linear layer of our width.

    Args:
        name: as `open_clip.list_models()` has it.
        weights: "DEFAULT" (open_clip's first tag for that name), a tag, "none" (or None) for
            random ones, the file of the whole model's state dict, or "local-dir:FOLDER" with
            open_clip_config.json and the weights.
        out_features, freeze: see `encoders.torchvision_networks.TorchvisionEncoder`.

    Shapes: (B, 3, S, S) float -> (B, out_features) float; S is the model's own size.

    Raises:
        InputError: open_clip is not installed; a name, tag or stage that it lacks; weights that
            cannot be had, are not this model's, or want another activation.
    """

    def __init__(
        self,
        name: str,
        weights: str | None,
        out_features: int,
        freeze: str | Mapping[str, str] | None = "none",
    ):
        tower: Any = _model("vision", name, weights).visual
        width = _without_projection(tower)
        projection = nn.Linear(width, out_features)
        origin = f"{version('open_clip')} {name} image"
        super().__init__("vision", tower, [projection], freeze, origin)
        self.projection = projection
        self.preprocessing = self.preprocessing_of(name, weights)

    @classmethod
    def preprocessing_of(cls, name: str, weights: str | None) -> ImagePreprocessing:
        """As open_clip, or the config of a local folder, has it; nothing is downloaded.

        Raises:
            InputError: see the class.
        """
        config, given, _ = _resolved("vision", name, weights)
        clip = library("open_clip", "model_config.concat_vl.vision.name")
        size = config["vision_cfg"].get("image_size", 224)
        return ImagePreprocessing(
            tuple(given.get("mean") or clip.OPENAI_DATASET_MEAN),
            tuple(given.get("std") or clip.OPENAI_DATASET_STD),
            given.get("interpolation") or "bicubic",
            size=size if isinstance(size, int) else size[0],
            smallest=None,
        )

    @classmethod
    def check(cls, name: str, weights: str | None) -> None:
        """Raise InputError for what the constructor would refuse, before anything is loaded."""
        _check("vision", name, weights)

    def features(self, image_B3HW: Tensor) -> Tensor:
        return self.network(image_B3HW)


class ClipTokens:
    """Texts to the tokens of a CLIP model; see `encoders.base.TextPreparation`."""

    are_vectors = False

    def __init__(self, name: str):
        _resolved("language", name, None)
        clip = library("open_clip", "model_config.concat_vl.language.name")
        with quiet():
            self._tokenizer = clip.get_tokenizer(name)
        vocabulary = library("open_clip.tokenizer", "model_config.concat_vl.language.name")
        self.checksum = sha256(vocabulary.default_bpe())
        self.identity = f"{version('open_clip')} {name} tokens {self.checksum}"

    def prepare(self, texts: Sequence[str]) -> Tensor:
        """int64 (N, T): T is the model's, mostly 77; what does not fit is cut off."""
        # A lone surrogate, which JSON can contain, has no UTF-8.
        plain = [text.encode("utf-8", "replace").decode() for text in texts]
        return self._tokenizer(plain)


class ClipTextEncoder(Encoder):
    """The text tower of a CLIP model, and a linear layer of our width.

    Args:
        name, weights, out_features, freeze: see `ClipImageEncoder`.

    Shapes: tokens int64 (B, T) -> (B, out_features) float.

    Raises:
        InputError: see `ClipImageEncoder`.
    """

    def __init__(
        self,
        name: str,
        weights: str | None,
        out_features: int,
        freeze: str | Mapping[str, str] | None = "none",
    ):
        tower: Any = _model("language", name, weights).text
        width = _without_projection(tower)
        projection = nn.Linear(width, out_features)
        origin = f"{version('open_clip')} {name} text"
        super().__init__("language", tower, [projection], freeze, origin)
        self.projection = projection

    @classmethod
    def from_config(
        cls, name: str, language: Mapping[str, Any], standardize: bool
    ) -> "ClipTextEncoder":
        return cls(name, language["weights"], language["out_features"], language["freeze"])

    @classmethod
    def check(cls, name: str, weights: str | None) -> None:
        """See `ClipImageEncoder.check`."""
        _check("language", name, weights)

    @classmethod
    def preparation_of(cls, name: str) -> ClipTokens:
        """The tokens that it reads."""
        return ClipTokens(name)

    def read(self, batch: Mapping[str, Any]) -> Tensor:
        """Tokens (B, T) from a batch of the data set.

        Raises:
            InputError: the data set gives something else.
        """
        text = batch.get("text")
        if not isinstance(text, Tensor) or text.is_floating_point():
            raise InputError(
                f"{self.key}.name: the text tower of CLIP reads its own tokens, which the data set "
                "hm_competition makes; this data set gives something else."
            )
        return text

    def features(self, tokens_BT: Tensor) -> Tensor:
        return self.network(tokens_BT)


def _resolved(
    branch: str, name: str, weights: str | None
) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """The model's config, its preprocessing as far as it says, and where its weights come from.

    That is: a tag of open_clip as "tag:...", a file, or None for random ones.
    """
    key = f"model_config.concat_vl.{branch}"
    clip = library("open_clip", f"{key}.name")
    config = clip.get_model_config(name) if name in clip.list_models() else None
    if config is None:
        raise InputError(
            f"{key}.name = open_clip/{name}: {unknown('model', name, clip.list_models())}"
        )
    text = config["text_cfg"]
    if foreign := text.get("hf_model_name") or text.get("hf_tokenizer_name"):
        raise InputError(
            f"{key}.name = open_clip/{name}: its text tower or tokenizer ({foreign}) is Hugging "
            "Face's and needs a newer transformers than MMF's 2.3.0. Take one with CLIP's own, as "
            "ViT-L-14-quickgelu or ViT-B-32-quickgelu."
        )
    if "multimodal_cfg" in config:
        raise InputError(f"{key}.name = open_clip/{name}: CoCa has no towers to take apart.")
    weights = str(weights)
    if weights.lower() == "none":
        return config, {}, None
    if weights.startswith(LOCAL_FOLDER):
        given, path = local_folder(weights, f"{key}.weights", FOLDER_CONFIG)
        _check_same_model(key, name, config, given.get("model_cfg") or {})
        return config, given.get("preprocess_cfg") or {}, str(path)
    tags = clip.list_pretrained_tags_by_model(name)
    if weights.lower() == "default":
        if not tags:
            raise InputError(
                f"{key}.weights: open_clip has no weights of {name}. Give a file, or none."
            )
        fitting = [tag for tag in tags if _is_quick(clip, name, tag) == _has_quick(config)]
        weights = (fitting or tags)[0]
    if weights in tags:
        published = clip.get_pretrained_cfg(name, weights)
        _check_activation(key, name, _has_quick(config), weights, _is_quick(clip, name, weights))
        return config, published, f"tag:{weights}"
    other = name.removesuffix(QUICK) if name.endswith(QUICK) else name + QUICK
    if weights in clip.list_pretrained_tags_by_model(other):
        _check_activation(key, name, _has_quick(config), weights, not _has_quick(config))
    return config, {}, weights


def _check(branch: str, name: str, weights: str | None) -> None:
    _, _, source = _resolved(branch, name, weights)
    if source and not source.startswith("tag:"):
        clip = library("open_clip", f"model_config.concat_vl.{branch}.name")
        tags = clip.list_pretrained_tags_by_model(name)
        check_file(source, tags, f"model_config.concat_vl.{branch}.weights")


def _has_quick(config: Mapping[str, Any]) -> bool:
    return bool(config.get("quick_gelu"))


def _is_quick(clip: Any, name: str, tag: str) -> bool:
    return bool(clip.get_pretrained_cfg(name, tag).get("quick_gelu"))


def _check_activation(key: str, name: str, has_quick: bool, tag: str, wants_quick: bool) -> None:
    """Weights with the other activation load without a word and give worse features."""
    if has_quick != wants_quick:
        other = name.removesuffix(QUICK) if has_quick else name + QUICK
        raise InputError(
            f"{key}.weights = {tag!r}: these weights were trained with "
            f"{'QuickGELU' if wants_quick else 'GELU'}; under the name {name} their features would "
            f"be worse without a word. Give {key}.name=open_clip/{other}."
        )


def _check_same_model(
    key: str, name: str, config: Mapping[str, Any], found: Mapping[str, Any]
) -> None:
    plain = {k: v for k, v in config.items() if k != "custom_text"}
    other = {k: v for k, v in found.items() if k != "custom_text"}
    differing = [
        k for k in {**plain, **other} if (plain.get(k) or False) != (other.get(k) or False)
    ]
    if differing:
        raise InputError(
            f"{key}.weights: the folder's {FOLDER_CONFIG} is of another model than "
            f"open_clip/{name}: {', '.join(differing)} differ. (Where it says quick_gelu: true, "
            f"the name ends in {QUICK}.)"
        )


def _model(branch: str, name: str, weights: str | None) -> nn.Module:
    """The whole model on the CPU, in float32, with its text tower apart."""
    key = f"model_config.concat_vl.{branch}"
    _, _, source = _resolved(branch, name, weights)
    clip = library("open_clip", f"{key}.name")
    tag = source.removeprefix("tag:") if source and source.startswith("tag:") else None
    try:
        with quiet():
            model = clip.create_model(name, pretrained=tag, force_custom_text=True)
    except Exception as error:  # of the network, the Hub, its cache, or of torch
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if tag is None:
            raise InputError(f"{key}.name: open_clip cannot build {name} ({reason}).") from None
        where = clip.get_pretrained_cfg(name, tag)
        place = where.get("hf_hub") or where.get("url")
        raise InputError(
            f"{key}.weights: the weights {tag!r} of {name} could not be had ({reason}). Where "
            f"there is no network, get open_clip_model.safetensors and {FOLDER_CONFIG} of "
            f"https://huggingface.co/{place.rstrip('/')} into a folder, and give "
            f"{key}.weights={LOCAL_FOLDER}FOLDER."
        ) from None
    if source is not None and tag is None:
        _load_file(model, source, f"{key}.weights")
    return model


def _load_file(model: nn.Module, path: str, key: str) -> None:
    clip_model = library("open_clip.model", key)
    state = read_weights(path, key)
    if "positional_embedding" in state:  # the text tower's parts lie at the top
        state = clip_model.convert_to_custom_text_state_dict(state)
    own = model.state_dict()
    wrong = sorted(own.keys() ^ state.keys())
    wrong += [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
    wrong = [name for name in wrong if not name.startswith("logit_")]
    if wrong:
        hint = ""
        if any(name.startswith(("text_model.", "vision_model.")) for name in state):
            hint = " It is Hugging Face's form of CLIP: take the open_clip_model.safetensors."
        raise InputError(
            f"{path}: not the weights of this model; its keys or shapes differ, as "
            f"{', '.join(wrong[:5])}.{hint}"
        )
    model.load_state_dict(
        {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}, strict=False
    )


def _without_projection(tower: Any) -> int:
    """Take the projection out of ``tower``; returns how many numbers it gives then.

    A tower of ResNet projects in its attention pooling, which is left as it is.
    """
    for attribute in ("proj", "text_projection"):
        projection = getattr(tower, attribute, None)
        if projection is None:
            continue
        setattr(tower, attribute, None)
        if isinstance(projection, nn.Linear):
            return projection.in_features
        return projection.shape[0]
    if hasattr(tower, "trunk") and hasattr(tower, "head"):  # timm's
        tower.head = nn.Identity()
        return tower.trunk.num_features
    return tower.output_dim
