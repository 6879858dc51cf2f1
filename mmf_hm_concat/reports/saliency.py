"""Why a run said so of one meme: where the image matters, and which words."""

from io import BytesIO

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from mmf_hm_concat.inference.features import Features, probabilities, text_features
from mmf_hm_concat.inference.member import Member
from mmf_hm_concat.reports.page import THUMBNAIL

COLOURS = "inferno"  # of matplotlib: brightness grows with the value, so it reads in grey, too
# Single pixels are noise: the map is smoothed by this part of its side (a Gaussian's deviation).
SMOOTH = 1 / 40


def saliency(member: Member, text_1D: Tensor | None, pixels_3HW: Tensor) -> np.ndarray | None:
    """How much each pixel moves the logit of "hateful" above that of "benign".

    The largest absolute gradient over the channels (Simonyan, Vedaldi and Zisserman 2013, "Deep
    Inside Convolutional Networks"), in float32.

    Args:
        text_1D: the text's feature; None without a text branch.
        pixels_3HW: uint8, of the size that the network takes.

    Returns:
        float (H, W) from 0 on; None where the image encoder is not differentiable end to end.
    """
    network = member.network
    image_13HW = member.preprocessing.normalize(pixels_3HW[None].to(member.device)).float()
    image_13HW = image_13HW.detach().requires_grad_()
    with torch.enable_grad():
        image_1D = network.vision_module(image_13HW)
        text = [] if text_1D is None else [text_1D.to(member.device)]
        logits_C = network.classify([*text, image_1D])[0]
        margin = logits_C[1] - logits_C[0]
        if not margin.requires_grad:
            return None
        (gradient,) = torch.autograd.grad(margin, image_13HW, allow_unused=True)
    return None if gradient is None else gradient[0].abs().amax(dim=0).cpu().numpy()


def heat(image: Image.Image, saliency_HW: np.ndarray) -> bytes:
    """The image in dark grey under its saliency in colours, as a JPEG of a thumbnail's size."""
    # Here, as importing it changes the process's warning filters.
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(saliency_HW, SMOOTH * len(saliency_HW))
    top = np.percentile(smooth, 99.5)
    scaled = np.clip(smooth / top, 0, 1) if top > 0 else np.zeros_like(smooth)
    grey = ImageOps.contain(image.convert("L"), (THUMBNAIL, THUMBNAIL))
    of_pixels = Image.fromarray((255 * scaled).astype(np.uint8)).resize(grey.size)
    strength = np.asarray(of_pixels, dtype=float) / 255
    colour = matplotlib.colormaps[COLOURS](strength)[..., :3]
    dark = 0.55 * np.asarray(grey, dtype=float)[..., None] / 255
    blended = (1 - 0.75 * strength[..., None]) * dark + 0.75 * strength[..., None] * colour
    content = BytesIO()
    Image.fromarray((255 * np.clip(blended, 0, 1)).astype(np.uint8)).save(
        content, "JPEG", quality=82
    )
    return content.getvalue()


def words_that_matter(
    member: Member, texts: list[str], image_ND: Tensor | None, proba_N: np.ndarray, most: int = 3
) -> list[list[tuple[str, float]]]:
    """For each meme the words whose removal changes P(hateful) most, and P(hateful) without them.

    Args:
        image_ND: the memes' image features; None without an image branch.
        proba_N: P(hateful) of the whole memes.
        most: how many words each.
    """
    without, of_meme, removed = [], [], []
    for meme, text in enumerate(texts):
        words = text.split()
        for word in dict.fromkeys(words):
            without.append(" ".join(each for each in words if each != word))
            of_meme.append(meme)
            removed.append(word)
    found: list[list[tuple[str, float]]] = [[] for _ in texts]
    text_ND = text_features(member, without)
    if text_ND is None:
        return found
    features = Features(text_ND, None if image_ND is None else image_ND[of_meme])
    for meme, word, proba in zip(of_meme, removed, probabilities(member, features), strict=True):
        found[meme].append((word, float(proba)))
    return [
        sorted(words, key=lambda word: -abs(word[1] - whole))[:most]
        for words, whole in zip(found, proba_N.tolist(), strict=True)
    ]
