"""The input as the tutorial does it: everything anew for every meme in every epoch.

Each sample opens and decodes the whole PNG, resizes, converts and normalises it with torchvision,
and asks fastText for the sentence vector. Batches come from a plain DataLoader with one worker a
core; the tutorial's own 16 workers and batches of 4 would only be slower on few cores.
"""

import warnings
from collections.abc import Sequence

import fasttext
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mmf_hm_concat.image_store import cores

BATCH = 32
# The tutorial's 16 workers are too many for few cores, as torch says at length.
warnings.filterwarnings("ignore", message="This DataLoader will create")


class Memes(Dataset):
    """(float32 (3, 224, 224), float32 (dim,)) for each meme."""

    def __init__(self, paths: Sequence[str], texts: Sequence[str], text_model: str):
        self.paths, self.texts = paths, texts
        self.text_model = fasttext.FastText._FastText(model_path=text_model)
        self.transform = transforms.Compose(
            [
                transforms.Resize((224, 224)),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = self.transform(Image.open(self.paths[i]).convert("RGB"))
        return image, torch.tensor(self.text_model.get_sentence_vector(self.texts[i]))


def epoch(memes: Memes, workers: int | None = None, batch: int = BATCH) -> int:
    """Go through all memes once, as a training would; returns how many there were."""
    workers = cores() if workers is None else workers
    batches = DataLoader(memes, batch, shuffle=True, num_workers=workers)
    return sum(len(images) for images, _ in batches)
