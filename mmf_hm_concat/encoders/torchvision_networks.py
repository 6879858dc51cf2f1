"""Image encoders by name: any classification network of torchvision, with a head of our size."""

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from mmf_hm_concat.config.check import unknown
from mmf_hm_concat.encoders.base import Encoder
from mmf_hm_concat.encoders.image_preprocessing import IMAGENET, ImagePreprocessing
from mmf_hm_concat.encoders.weights import check_file, read_weights
from mmf_hm_concat.errors import InputError

KEY = "model_config.concat_vl.vision"
# The networks that take squares of one size only, by the beginning of their names; in pixels.
ONE_SIZE = {"vit_": 224, "maxvit_": 224}
# Trained with the others' 224 pixels in every release of this package, or with their own:
OWN_SIZE = {"inception_v3": 299}
# What torchvision calls their least size (`min_size`) is none: they take smaller images, too.
ANY_SIZE = ("swin_", "efficientnet_v2_")
# Their weights were trained on pixels from -1 to 1; torchvision undoes ImageNet's mean and
# deviation inside the network instead (`transform_input`).
PLUS_MINUS_ONE = ("googlenet", "inception_v3")


class TorchvisionEncoder(Encoder):
    """A torchvision classification network whose head gives ``out_features`` numbers.

    Args:
        name: as `torchvision.models.list_models(module=torchvision.models)` has it.
        weights: "DEFAULT" or another name of the network's weights in torchvision; "none" (or
            None) for random ones; or the path of a state dict saved with `torch.save`.
        out_features: width of the head; the pretrained head (1000 classes) is left out.
        freeze: what is not trained, see `Encoder`.

    Shapes: (B, 3, H, W) float -> (B, out_features) float.

    Raises:
        InputError: unknown name, weights or stage, weights that cannot be had, or a file whose
            keys or shapes are not this network's.
    """

    def __init__(
        self,
        name: str,
        weights: str | None,
        out_features: int,
        freeze: str | Mapping[str, str] | None = "none",
    ):
        self.preprocessing = self.preprocessing_of(name, weights)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # GoogLeNet's and Inception's, about their speed
            network = models.get_model(name, weights=None, num_classes=out_features)
        if weights is not None and str(weights).lower() != "none":
            state, source = _pretrained(name, str(weights))
            if isinstance(network, VisionTransformer):
                state = _for_its_size(network, state)
            _load_without_head(network, state, source)
        # The auxiliary heads of GoogLeNet and Inception are no part of what we train.
        for auxiliary in ("aux1", "aux2", "AuxLogits"):
            if hasattr(network, auxiliary):
                setattr(network, auxiliary, None)
        origin = f"torchvision {torchvision.__version__} {name}"
        super().__init__("vision", network, _head(network), freeze, origin)

    @classmethod
    def preprocessing_of(cls, name: str, weights: str | None) -> ImagePreprocessing:
        """What torchvision says of published ``weights``; ImageNet's for a file's and random ones.

        Neither downloads nor reads anything.

        Raises:
            InputError: torchvision has no such network.
        """
        known = models.list_models(module=models)
        if name not in known:
            problem = unknown("network", name, known)
            raise InputError(
                f"{KEY}.name: torchvision has none of that name: {problem} Networks of other "
                "libraries: timm/NAME, open_clip/NAME."
            )
        only = next((size for start, size in ONE_SIZE.items() if name.startswith(start)), None)
        of_network: dict[str, Any] = {
            "size": only or OWN_SIZE.get(name, 224),
        }
        published = models.get_model_weights(name)
        if only is not None:
            of_network["smallest"] = None
        elif not name.startswith(ANY_SIZE):
            of_network["smallest"] = max(published.DEFAULT.meta["min_size"])
        if str(weights) not in published.__members__:
            return dataclasses.replace(IMAGENET, **of_network)
        wanted = published[str(weights)].transforms()
        mean, std = tuple(wanted.mean), tuple(wanted.std)
        if name in PLUS_MINUS_ONE:
            mean = std = (0.5, 0.5, 0.5)
        return ImagePreprocessing(mean, std, wanted.interpolation.value, **of_network)

    @classmethod
    def check(cls, name: str, weights: str | None) -> None:
        """Raise InputError for what the constructor would refuse, before anything is loaded."""
        cls.preprocessing_of(name, weights)
        tags = models.get_model_weights(name).__members__
        if str(weights).lower() != "none" and weights not in (*tags, "DEFAULT"):
            check_file(str(weights), list(tags), f"{KEY}.weights")

    def features(self, image_B3HW: Tensor) -> Tensor:
        """What the head gets. The head stays where torchvision has it, and so do its weights."""
        caught: list[Tensor] = []
        hook = self.head[0].register_forward_pre_hook(lambda _, given: caught.append(given[0]))
        try:
            self.network(image_B3HW)
        finally:
            hook.remove()
        return caught[0]

    def forward(self, image_B3HW: Tensor) -> Tensor:
        return self.network(image_B3HW)


def _head(network: nn.Module) -> list[nn.Module]:
    """The last module with parameters of its own, in every network of torchvision.

    Of SqueezeNet, whose head is a convolution, with what follows it: ReLU and pooling.
    """
    path, head = [(n, m) for n, m in network.named_modules() if list(m.parameters(recurse=False))][
        -1
    ]
    above, _, last = path.rpartition(".")
    parent = network.get_submodule(above)
    if not isinstance(head, nn.Conv2d) or not isinstance(parent, nn.Sequential):
        return [head]
    return [*list(parent)[int(last) :], nn.Flatten()]


def _for_its_size(network: VisionTransformer, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights trained at another size, with their position embeddings interpolated."""
    if getattr(state.get("encoder.pos_embedding"), "ndim", 0) != 3:
        return state  # of another network, which is told later
    return interpolate_embeddings(network.image_size, network.patch_size, dict(state))


def _pretrained(name: str, weights: str) -> tuple[dict[str, Tensor], str]:
    choices = models.get_model_weights(name)
    if weights == "DEFAULT" or weights in choices.__members__:
        chosen = choices[weights]
        cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(chosen.url).name
        try:
            return chosen.get_state_dict(progress=True, check_hash=True), str(cached)
        except (URLError, OSError, RuntimeError) as error:
            raise InputError(
                f"model_config.concat_vl.vision.weights: the pretrained weights of {name} could "
                f"not be had ({error}). Where there is no network, put the file of {chosen.url} "
                f"at {cached}, or train from random weights with "
                f"model_config.concat_vl.vision.weights=none."
            ) from None
    check_file(weights, list(choices.__members__), f"{KEY}.weights")
    return read_weights(weights, f"{KEY}.weights"), weights


def _load_without_head(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load every parameter but the head's, which differs from ours in its first dimension only."""
    own = network.state_dict()
    head = {
        key
        for key in own.keys() & state.keys()
        if own[key].shape != state[key].shape and own[key].shape[1:] == state[key].shape[1:]
    }
    wrong = sorted(own.keys() ^ state.keys())
    wrong += [k for k in own.keys() & state.keys() - head if own[k].shape != state[k].shape]
    # A head is one layer: a weight and a bias. GoogLeNet and Inception have auxiliary ones.
    wrong = [key for key in wrong if not key.lower().startswith("aux")]
    if wrong or len({key.rpartition(".")[0] for key in head if not key.startswith("aux")}) > 1:
        shown = ", ".join(wrong[:5] or sorted(head)[:5])
        raise InputError(
            f"{source}: not the weights of this network; its keys or shapes differ, as {shown}."
        )
    kept = {key: value for key, value in state.items() if key in own and key not in head}
    network.load_state_dict(own | kept)
