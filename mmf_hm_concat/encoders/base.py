"""What all encoders share: what of them is trained; and how a foreign one joins the fusion.

``forward`` is ``project(features(...))``: the pretrained network, then the new head. Features of a
wholly frozen network are the same in every epoch, so they are computed once
(`training.frozen_features`), and its weights are saved once (`Encoder.frozen_weights`);
`Encoder.identity` says what they depend on, besides the input.

An image encoder has ``preprocessing`` (`encoders.image_preprocessing`), known by its class method
``preprocessing_of(name, weights)`` before anything is built. A text encoder has ``read(batch)``,
which takes from a batch what `forward` wants and refuses a batch without it, and the class method
``preparation_of(name)`` (`TextPreparation`).
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmf_hm_concat.encoders.image_preprocessing import IMAGENET, ImagePreprocessing
from mmf_hm_concat.errors import InputError

BATCH_NORM = nn.modules.batchnorm._BatchNorm
# What MMF's tokenizers call the tensors that a transformer takes, in the order it takes them.
OF_TOKENIZER = ("input_ids", "input_mask", "segment_ids")


class TextPreparation(Protocol):
    """How texts become what a text encoder reads, before the encoder exists.

    Attributes:
        identity: what the numbers depend on besides the text: the library with its version, the
            model, the checksum.
        checksum: SHA-256 of what makes the numbers: weights, vocabulary. A checkpoint keeps it.
        are_vectors: whether they are sentence vectors, whose mean and deviation the encoder wants,
            or tokens.
    """

    identity: str
    checksum: str
    are_vectors: bool

    def prepare(self, texts: Sequence[str]) -> Tensor:
        """(N, ...) of N texts: float32 vectors, or int64 tokens."""


def checksum(weights: Mapping[str, Tensor]) -> str:
    """Hexadecimal SHA-256 over names, dtypes, shapes and numbers."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)};".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Encoder(nn.Module):
    """A pretrained network with a new head, of which a part may be frozen.

    Args:
        branch: "language" or "vision", which names the keys in messages.
        network: what pretrained weights fill, but for ``head``.
        head: the modules with the new parameters, in the order they are applied.
        freeze: what is not trained. "none"; "all" (but the head; the network's dropout is off,
            too); "bn": the batch norms, their statistics included; {"until": stage}: everything
            before that stage, as layer3.
        origin: library with its version, and the network's name in it, for `identity`.

    Raises:
        InputError: unknown ``freeze`` or stage.
    """

    def __init__(
        self,
        branch: str,
        network: nn.Module,
        head: list[nn.Module],
        freeze: str | Mapping[str, str] | None = "none",
        origin: str = "",
    ):
        super().__init__()
        self.key = f"model_config.concat_vl.{branch}"
        self.network = network
        self.head = head
        self.origin = origin
        self.is_frozen = freeze == "all"
        self.frozen = self._frozen(freeze)
        for module in self.frozen:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad = False
        self.train(self.training)

    def _frozen(self, freeze: str | Mapping[str, str] | None) -> list[nn.Module]:
        named = list(self.network.named_modules())
        if freeze in (None, "none"):
            return []
        if freeze == "all":
            return [module for _, module in named if module not in self.head]
        if freeze == "bn":
            return [module for _, module in named if isinstance(module, BATCH_NORM)]
        if not isinstance(freeze, Mapping) or list(freeze) != ["until"]:
            raise InputError(
                f"{self.key}.freeze: {freeze!r} is not none, all, bn or, for instance, "
                "{until: layer3}."
            )
        names = [name for name, _ in named]
        if freeze["until"] not in names:
            stages = ", ".join(name for name, _ in self.network.named_children())
            raise InputError(
                f"{self.key}.freeze.until: the network has no stage {freeze['until']!r}. "
                f"It has {stages}."
            )
        return [module for _, module in named[: names.index(freeze["until"])]]

    def pretrained_parameters(self) -> list[nn.Parameter]:
        """Every parameter but the head's: those that pretrained weights fill."""
        head = {id(p) for module in self.head for p in module.parameters()}
        return [p for p in self.parameters() if id(p) not in head]

    def features(self, given: Any) -> Tensor:
        """What the pretrained network makes of a batch, float (B, ...)."""
        raise NotImplementedError

    def project(self, features: Tensor) -> Tensor:
        """What the head makes of `features`, float (B, out_features)."""
        for module in self.head:
            features = module(features)
        return features

    def forward(self, given: Any) -> Tensor:
        return self.project(self.features(given))

    def frozen_weights(self) -> dict[str, Tensor]:
        """What training leaves as it is of a wholly frozen network, by its name in `state_dict`."""
        if not self.is_frozen:
            return {}
        head = {id(t) for module in self.head for t in module.state_dict(keep_vars=True).values()}
        named = self.network.state_dict(prefix="network.", keep_vars=True)
        return {name: tensor.detach() for name, tensor in named.items() if id(tensor) not in head}

    def identity(self) -> str:
        """What `features` of a frozen network depend on besides the input."""
        return f"{self.origin} {checksum(self.frozen_weights())}"

    def train(self, mode: bool = True) -> "Encoder":
        super().train(mode)
        if self.is_frozen:
            self.network.eval()  # features that change from epoch to epoch are not frozen
        for module in self.frozen:
            if isinstance(module, BATCH_NORM):
                module.eval()  # a frozen batch norm keeps its statistics, too
        return self


class ProjectedEncoder(Encoder):
    """An encoder made elsewhere, as those of MMF, with a linear layer of our width behind it.

    Args:
        branch, freeze: see `Encoder`.
        network: takes what the branch gets, a tensor or several, and gives float (B, ...), or a
            tuple whose second item is that, as the pooled output of a transformer.
        in_features: how many numbers ``network`` gives a meme, all together.
        out_features: how many the fusion gets.

    Shapes: a tensor (B, ...) or a tuple of them -> (B, out_features) float.

    Raises:
        InputError: ``in_features`` is not given; or, with the first batch, is not what the
            network gives.
    """

    # MMF's image encoders are torchvision's networks.
    preprocessing: ImagePreprocessing = IMAGENET

    def __init__(
        self,
        branch: str,
        network: nn.Module,
        in_features: int | None,
        out_features: int,
        freeze: str | Mapping[str, str] | None = "none",
    ):
        if not in_features:
            raise InputError(
                f"model_config.concat_vl.{branch}.in_features: say how many numbers the "
                f"mmf_encoder gives a meme (its layers' documentation has them: 2048 for each of "
                "resnet152's num_output_features, hidden_size for a transformer)."
            )
        projection = nn.Linear(in_features, out_features)
        super().__init__(branch, network, [projection], freeze, "mmf")
        self.projection = projection

    def read(self, batch: Mapping[str, Any]) -> Any:
        """What a text encoder takes: a tokenizer's tensors, (B, T) each, else ``text``."""
        if OF_TOKENIZER[0] in batch:
            return tuple(batch[name] for name in OF_TOKENIZER)
        return batch.get("text")

    @classmethod
    def preparation_of(cls, name: str) -> None:
        """The data set's text processor makes the tensors."""

    def features(self, given: Tensor | tuple[Tensor, ...]) -> Tensor:
        given = given if isinstance(given, tuple) else (given,)
        features = self.network(*given)
        if isinstance(features, tuple):
            features = features[1] if len(features) > 1 else features[0]
        # MMF's text embeddings drop the dimension of a batch of one.
        features = features.reshape(len(given[0]), -1)
        if features.shape[1] != self.projection.in_features:
            raise InputError(
                f"The mmf_encoder of {self.key} gives {features.shape[1]} numbers a meme, but "
                f"{self.key}.in_features is {self.projection.in_features}. Make it "
                f"{features.shape[1]}, or change mmf_encoder.params."
            )
        return features.to(self.projection.weight.dtype)
