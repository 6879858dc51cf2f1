"""What an image encoder wants done to an image before it sees it; and ImageNet's numbers.

An image encoder declares it twice, for those who ask before and after it is built: the class
method ``preprocessing_of(name, weights)`` needs no weights at hand, because images are decoded
before the network exists; the attribute ``preprocessing`` is what this very encoder was trained
with, which a checkpoint keeps. The side of the image is the encoder's with `image_size: auto`.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from mmf_hm_concat.images.decode import normalize, resize


@dataclass(frozen=True)
class ImagePreprocessing:
    """How pixels become an encoder's input.

    Attributes:
        mean, std: of each channel, red first, of pixels in [0, 1].
        interpolation: of the resize, a name of `PIL.Image.Resampling` in lower case.
        size: side of the square that it was made for, in pixels.
        smallest: the least side that it takes; None: no other than ``size``.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"
    size: int = 224
    smallest: int | None = 1

    def resize(self, image: Image.Image, size: int) -> np.ndarray:
        """See `images.decode.resize`."""
        return resize(image, size, self.interpolation)

    def normalize(self, images_B3HW: Tensor) -> Tensor:
        """See `images.decode.normalize`."""
        return normalize(images_B3HW, self.mean, self.std)


# Of the images that most of torchvision's weights were trained on (pytorch.org/vision: models).
IMAGENET = ImagePreprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
