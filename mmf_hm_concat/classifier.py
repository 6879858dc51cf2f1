"""`MemeClassifier`: the probability that a meme is hateful, from a run's folder, without MMF.

>>> classifier = MemeClassifier.load("save/concat")
>>> classifier("meme.png", "look how many people love you")
0.031
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mmf_hm_concat import checkpoints
from mmf_hm_concat.batches import EVALUATION_BATCH
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.fusion import LanguageAndVisionConcat
from mmf_hm_concat.images import normalize, read_rgb, resize
from mmf_hm_concat.network import build_network
from mmf_hm_concat.precision import autocast, choose_precision
from mmf_hm_concat.text import TextModel, load_text_model

ImageSource = str | Path | Image.Image


class MemeClassifier:
    """A trained `concat_vl`; made by `load`.

    Calling it with an image (a path or a PIL image) and a text gives P(hateful), a float in
    [0, 1]; with a sequence of each, a list of them. On a CPU it is the same number, bit for bit,
    that mmf_predict writes.
    """

    def __init__(
        self,
        network: LanguageAndVisionConcat,
        text_model: TextModel | None,
        image_size: int,
        precision: str,
        device: torch.device,
    ):
        self.network = network.eval().to(device, memory_format=torch.channels_last)
        self.text_model, self.image_size = text_model, image_size
        self.precision, self.device = precision, device

    @classmethod
    def load(cls, run: str | Path) -> "MemeClassifier":
        """Load the best checkpoint of a run.

        Args:
            run: the run's `env.save_dir`, or one checkpoint in it.

        Raises:
            InputError: no checkpoint, one of another model, or a text model that is missing or
                not the one the checkpoint was trained with.
        """
        path = Path(run)
        path = path / checkpoints.BEST if path.is_dir() else path
        state = checkpoints.load_checkpoint(path)
        config = state.get("config", {})
        if config.get("model") != "concat_vl" or "hm_competition" not in config["dataset_config"]:
            raise InputError(
                f"{path}: MemeClassifier loads concat_vl trained on hm_competition; this is "
                f"{config.get('model')} on {config.get('datasets')}."
            )
        settings = config["model_config"]["concat_vl"]
        network = build_network(_without_pretrained_weights(settings))
        weights = {key.removeprefix("network."): value for key, value in state["model"].items()}
        checkpoints.load_weights(network, weights, path)
        text_model = None
        if settings["language"]:
            text_model = load_text_model(path.parent / checkpoints.TEXT_MODEL, state["text_model"])
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        precision, _ = choose_precision(config["training"]["precision"], device)
        size = config["dataset_config"]["hm_competition"]["image_size"]
        return cls(network, text_model, size, precision, device)

    def __call__(
        self, image: ImageSource | Sequence[ImageSource], text: str | Sequence[str]
    ) -> float | list[float]:
        if isinstance(text, str):
            return self._probabilities([image], [text])[0]
        if len(image) != len(text):
            raise InputError(f"{len(image)} images but {len(text)} texts: give one text an image.")
        return self._probabilities(image, text)

    def _probabilities(self, images: Sequence[ImageSource], texts: Sequence[str]) -> list[float]:
        if not texts:
            return []
        vectors = None
        if self.text_model is not None:
            vectors = torch.from_numpy(self.text_model.vectors(texts))
        found: list[float] = []
        size = EVALUATION_BATCH[self.device.type]
        for start in range(0, len(texts), size):
            # Always the same shape, as mmf_predict: another one may round otherwise.
            rows = [min(start + k, len(texts) - 1) for k in range(size)]
            used = rows[: min(size, len(texts) - start)]
            text_BL = None if vectors is None else vectors[rows].to(self.device)
            image_B3HW = self._pixels([images[i] for i in used], size)
            with torch.inference_mode(), autocast(self.precision, self.device):
                logits = self.network(text_BL, image_B3HW).float().cpu()
            found += torch.softmax(logits.double(), dim=1)[: len(used), 1].tolist()
        return found

    def _pixels(self, images: Sequence[ImageSource], size: int) -> torch.Tensor | None:
        if self.network.vision_module is None:
            return None
        pixels = [torch.from_numpy(resize(read_rgb(image), self.image_size)) for image in images]
        pixels += pixels[-1:] * (size - len(pixels))
        return normalize(torch.stack(pixels).permute(0, 3, 1, 2).to(self.device))


def _without_pretrained_weights(settings: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint replaces them: no need to have or download the file."""
    vision = settings["vision"] and {**settings["vision"], "weights": "none"}
    return {**settings, "vision": vision}
