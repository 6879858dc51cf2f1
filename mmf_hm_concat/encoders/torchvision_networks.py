"""Image encoders by name: any classification network of torchvision, with a head of our size."""

from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import torch
from torch import nn
from torchvision import models

from mmf_hm_concat.encoders.base import Encoder
from mmf_hm_concat.encoders.image_preprocessing import IMAGENET, ImagePreprocessing
from mmf_hm_concat.errors import InputError


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
        known = models.list_models(module=models)
        if name not in known:
            raise InputError(
                f"model_config.concat_vl.vision.name: torchvision has no network {name!r}. "
                f"Known: {', '.join(known)}."
            )
        network = models.get_model(name, weights=None, num_classes=out_features)
        if weights is not None and str(weights).lower() != "none":
            state, source = _pretrained(name, str(weights))
            _load_without_head(network, state, source)
        # The last module with parameters of its own is the head, in every network of torchvision.
        head = [m for m in network.modules() if list(m.parameters(recurse=False))][-1:]
        super().__init__("vision", network, head, freeze)
        self.preprocessing = self.preprocessing_of(name, weights)

    @classmethod
    def preprocessing_of(cls, name: str, weights: str | None) -> ImagePreprocessing:
        """What torchvision says of published ``weights``; ImageNet's for a file's and random ones.

        Neither downloads nor reads anything. Names that do not exist are left to the constructor.
        """
        known = models.get_model_weights(name) if name in models.list_models(models) else {}
        if str(weights) not in getattr(known, "__members__", ()):
            return IMAGENET
        published = known[str(weights)].transforms()
        return ImagePreprocessing(
            tuple(published.mean), tuple(published.std), published.interpolation.value
        )

    def forward(self, image_B3HW: torch.Tensor) -> torch.Tensor:
        features = self.network(image_B3HW)
        # GoogLeNet and Inception give a tuple while they train: the main output comes first.
        return features if isinstance(features, torch.Tensor) else features[0]


def _pretrained(name: str, weights: str) -> tuple[dict[str, torch.Tensor], str]:
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
    if not Path(weights).is_file():
        raise InputError(
            f"model_config.concat_vl.vision.weights: {weights!r} is neither a file nor one of "
            f"{', '.join(choices.__members__)}, DEFAULT or none."
        )
    try:
        return torch.load(weights, map_location="cpu", weights_only=True), weights
    except Exception as error:  # a pickle can fail in any way, and none of it is to be run
        reason = str(error).splitlines()[0]
        raise InputError(f"{weights}: not a state dict saved with torch.save ({reason}).") from None


def _load_without_head(network: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Load every parameter but the head's, which differs from ours in its first dimension only."""
    own = network.state_dict()
    if not isinstance(state, dict) or not all(hasattr(value, "shape") for value in state.values()):
        raise InputError(f"{source}: not a state dict (names to tensors).")
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
