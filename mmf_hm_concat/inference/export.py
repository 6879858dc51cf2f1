"""`hm_concat export`: a trained `concat_vl` as one ONNX file, for programs without torch.

Inputs, N memes at a time, each only if the model has that branch:

- ``text``: what the text encoder reads. Sentence vectors, float32 (N, L): of the run's
  `text_model.bin` as fastText's `get_sentence_vector` gives them, or wordllama's `embed`; scaling
  them is part of the model. Of a CLIP model: tokens, int64 (N, T), of open_clip's tokenizer.
- ``image``: uint8 (N, 3, S, S), RGB, the whole image resized to S x S pixels
  (`mmf_hm_concat.images.decode`: `read_rgb`, then `resize` with the interpolation that the image
  encoder wants, mostly bilinear); normalising them is part of the model.

Output ``proba``: float32 (N,), P(hateful), as the network computes it in float32.

The file's metadata say the same for programs, as JSON under a key for each input (`_about`), and
under ``mmf_hm_concat`` the version that wrote it. docs/onnx.md has a program that reads them.
"""

import importlib.util
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmf_hm_concat import __version__
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.inference.member import Member, load_member
from mmf_hm_concat.models.network import FusionNetwork
from mmf_hm_concat.training import checkpoints
from mmf_hm_concat.utils.files import atomic_write, sha256, why_unwritable

NEEDED = ("onnx", "onnxscript")


class _Probabilities(nn.Module):
    """Inputs and output as the module's docstring has them."""

    def __init__(self, network: FusionNetwork):
        super().__init__()
        self.network = network

    def forward(self, text: Tensor | None = None, image: Tensor | None = None) -> Tensor:
        if image is not None:
            image = self.network.vision_module.preprocessing.normalize(image)
        return torch.softmax(self.network(text, image), dim=1)[:, 1]


def export(run: str | Path, out: Path) -> str:
    """Write the best checkpoint of ``run`` to ``out``; returns a line that says what it takes.

    Args:
        run: the run's `env.save_dir`, or one checkpoint in it.

    Raises:
        InputError: onnx or onnxscript is not installed; the run cannot be loaded (see
            `MemeClassifier.load`), or ``out`` cannot be written.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"hm_concat export needs {' and '.join(missing)}: "
            "pip install -r requirements/export.txt, or pip install 'mmf_hm_concat[export]'."
        )
    if problem := why_unwritable(out.parent):
        raise InputError(f"{out}: cannot be written ({problem}).")
    member = load_member(Path(run)).without_vectors(run)
    network, size = member.network.cpu().float(), member.image_size
    inputs: dict[str, Tensor] = {}
    if member.prepare_text is not None:
        inputs["text"] = member.prepare_text(["", ""])
    if network.vision_module is not None:
        inputs["image"] = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    memes = torch.export.Dim("memes")
    try:
        with atomic_write(out) as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's exporter, about its own insides
            for chatty in ("torch.onnx", "onnxscript", "onnx_ir"):
                logging.getLogger(chatty).setLevel(logging.ERROR)
            program = torch.onnx.export(
                _Probabilities(network).eval(),
                kwargs=inputs,
                input_names=list(inputs),
                output_names=["proba"],
                dynamic_shapes={name: {0: memes} for name in inputs},
                dynamo=True,
                verbose=False,
            )
            assert program is not None  # as dynamo=True promises
            program.model.metadata_props["mmf_hm_concat"] = __version__
            for name, about in _about(member).items():
                program.model.metadata_props[name] = json.dumps(about)
            program.save(str(temporary), external_data=False)  # one file
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error}).") from None
    shapes = ", ".join(
        f"{name} {str(x.dtype).removeprefix('torch.')} (N, {', '.join(map(str, x.shape[1:]))})"
        for name, x in inputs.items()
    )
    note = ""
    if member.precision != "fp32":
        note = (
            f". In float32; mmf_predict of this run computes in {member.precision}, unless "
            "training.precision=fp32"
        )
    return f"{out}: takes {shapes}; gives proba float32 (N,){note}."


def _about(member: Member) -> dict[str, dict[str, Any]]:
    """By input, what a program has to know to make it of an image and a text.

    - image: `size` S; `interpolation` of the resize, as `PIL.Image.Resampling` calls it; `mean`
      and `std` by which the model normalises, for those who want to undo it.
    - text: `encoder` by its name; of fasttext, `file` in the run's folder and its `sha256`.
    """
    about: dict[str, dict[str, Any]] = {}
    if member.prepare_text is not None:
        encoder = member.config["model_config"]["concat_vl"]["language"]["name"]
        about["text"] = {"encoder": encoder}
        if encoder == "fasttext":
            file = checkpoints.folder_of_run(member.path) / checkpoints.TEXT_MODEL
            about["text"] |= {"file": file.name, "sha256": sha256(file)}
    if member.reads_images:
        wanted = member.preprocessing
        about["image"] = {
            "size": member.image_size,
            "interpolation": wanted.interpolation,
            "mean": wanted.mean,
            "std": wanted.std,
        }
    return about
