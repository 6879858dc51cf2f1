"""Image encoders of timm: `vision.name: timm/NAME`, any of its networks."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmf_hm_concat.config.check import unknown
from mmf_hm_concat.encoders.base import Encoder
from mmf_hm_concat.encoders.image_preprocessing import ImagePreprocessing
from mmf_hm_concat.encoders.libraries import library, quiet, version
from mmf_hm_concat.encoders.weights import (
    LOCAL_FOLDER,
    check_file,
    load_weights,
    local_folder,
    read_weights,
)
from mmf_hm_concat.errors import InputError

KEY = "model_config.concat_vl.vision"


class TimmEncoder(Encoder):
    """A network of timm without its classifier, and a linear layer of our width.

    Args:
        name: as `timm.list_models()` has it, with or without the tag of its weights
            (resnet18.a1_in1k).
        weights: "DEFAULT" (timm's, or the tag's in ``name``), another tag, "none" (or None) for
            random ones, a state dict's file (the classifier in it is left out), or
            "local-dir:FOLDER" with config.json and the weights, as the Hugging Face Hub has it.
        out_features, freeze: see `encoders.torchvision_networks.TorchvisionEncoder`.

    Shapes: (B, 3, H, W) float -> (B, out_features) float.

    Raises:
        InputError: timm is not installed; unknown name, tag or stage; weights that cannot be had
            or are not this network's.
    """

    def __init__(
        self,
        name: str,
        weights: str | None,
        out_features: int,
        freeze: str | Mapping[str, str] | None = "none",
    ):
        config, source = _resolved(name, weights)
        with quiet():
            try:
                network = library("timm", f"{KEY}.name").create_model(
                    config["architecture"], pretrained=False, num_classes=0
                )
            except Exception as error:  # whatever timm says of networks that it cannot build so
                raise InputError(f"{KEY}.name: timm cannot build {name} ({error}).") from None
            if source == "published":
                _load_published(network, config)
        if source not in (None, "published"):
            state = read_weights(source, f"{KEY}.weights")
            classifiers = config["classifier"] or ()
            classifiers = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
            kept = {
                key: value
                for key, value in state.items()
                if not key.startswith(tuple(f"{each}." for each in classifiers))
            }
            load_weights(network, kept, source)
        width = getattr(network, "head_hidden_size", None) or network.num_features
        projection = nn.Linear(width, out_features)
        origin = f"{version('timm')} {config['architecture']}"
        super().__init__("vision", network, [projection], freeze, origin)
        self.projection = projection
        self.preprocessing = _preprocessing(config)

    @classmethod
    def preprocessing_of(cls, name: str, weights: str | None) -> ImagePreprocessing:
        """As timm, or the config.json of a local folder, has it; nothing is downloaded.

        Raises:
            InputError: see the class.
        """
        return _preprocessing(_resolved(name, weights)[0])

    @classmethod
    def check(cls, name: str, weights: str | None) -> None:
        """Raise InputError for what the constructor would refuse, before anything is loaded."""
        config, source = _resolved(name, weights)
        if source not in (None, "published"):
            check_file(source, _tags(config["architecture"]), f"{KEY}.weights")

    def features(self, image_B3HW: Tensor) -> Tensor:
        return self.network(image_B3HW)


def _resolved(name: str, weights: str | None) -> tuple[dict[str, Any], str | None]:
    """timm's config of the weights (its keys), and where they come from: a file, "published", None.

    Raises:
        InputError: unknown name or tag, or no such file.
    """
    timm = library("timm", f"{KEY}.name")
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        problem = unknown("network", architecture, timm.list_models())
        raise InputError(f"{KEY}.name = timm/{name}: {problem}")
    tags = _tags(architecture)
    weights, source = str(weights), None
    if weights.startswith(LOCAL_FOLDER):
        config, path = local_folder(weights, f"{KEY}.weights", "config.json")
        if config.get("architecture") != architecture:
            raise InputError(
                f"{KEY}.weights = {weights!r}: these are weights of "
                f"{config.get('architecture')}, but {KEY}.name is timm/{name}. Make them the same."
            )
        given = config.get("pretrained_cfg") or {}
        return {**_published(timm, name), **given, "architecture": architecture}, str(path)
    if weights.lower() == "default":
        source = "published"
    elif weights in tags:
        tag, source = weights, "published"
    elif weights.lower() != "none":
        source = weights
    name = f"{architecture}.{tag}" if tag else architecture
    if tag and tag not in tags:
        raise InputError(f"{KEY}.name = timm/{name}: {unknown('tag of weights', tag, tags)}")
    if source == "published" and not tags:
        raise InputError(
            f"{KEY}.weights: timm has no weights of {name}. Give a file, or none for random ones."
        )
    return {**_published(timm, name), "architecture": architecture, "tagged": name}, source


def _tags(architecture: str) -> list[str]:
    timm = library("timm", f"{KEY}.name")
    return [each.partition(".")[2] for each in timm.list_pretrained(architecture)]


def _published(timm: Any, name: str) -> dict[str, Any]:
    config = timm.get_pretrained_cfg(name)
    return config.to_dict() if config is not None else {"classifier": None}


def _load_published(network: nn.Module, config: Mapping[str, Any]) -> None:
    timm = library("timm", f"{KEY}.name")
    name = config["tagged"]
    try:
        published = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # of the network, the Hub, or its cache
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        hub = config.get("hf_hub_id") or f"timm/{name}"
        raise InputError(
            f"{KEY}.weights: the pretrained weights of timm/{name} could not be had ({reason}). "
            f"Where there is no network, put model.safetensors and config.json of "
            f"https://huggingface.co/{hub.rstrip('/')} into a folder, and give "
            f"{KEY}.weights={LOCAL_FOLDER}FOLDER."
        ) from None
    network.load_state_dict(published.state_dict())


def _preprocessing(config: Mapping[str, Any]) -> ImagePreprocessing:
    timm_data = library("timm.data", f"{KEY}.name")
    data = timm_data.resolve_data_config(pretrained_cfg=dict(config))
    interpolation = data["interpolation"]
    return ImagePreprocessing(
        tuple(data["mean"]),
        tuple(data["std"]),
        "bilinear" if interpolation == "random" else interpolation,
        size=data["input_size"][-1],
        smallest=None if config.get("fixed_input_size") else 1,
    )
