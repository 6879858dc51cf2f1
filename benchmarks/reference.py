"""Input, training and prediction as the tutorial does them: everything anew for every meme.

Input: each sample opens and decodes the whole PNG, resizes, converts and normalises it with
torchvision, and asks fastText for the sentence vector. Batches come from a plain DataLoader with
one worker a core; the tutorial's own 16 workers and batches of 4 would only be slower on few cores.
Training: float32, batches of 4, gradients added up over 16 of them, the probabilities (not the
logits) into cross-entropy.
"""

import warnings
from collections.abc import Sequence

import fasttext
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mmf_hm_concat.utils.parallel import num_cores

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
    workers = num_cores() if workers is None else workers
    batches = DataLoader(memes, batch, shuffle=True, num_workers=workers)
    return sum(len(images) for images, _ in batches)


def train(memes: Memes, labels: Tensor, network: nn.Module, workers: int) -> int:
    """One epoch, with the loss read after every batch for the log; returns how many memes.

    Args:
        labels: int64 (N,).
        network: (text, image) -> logits, in float32 and torch's default memory layout.
        workers: of the loader; the tutorial sets 16.
    """
    device = next(network.parameters()).device
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-5)
    rows = torch.randperm(len(memes)).tolist()
    batches = DataLoader(Labelled(memes, labels), 4, sampler=rows, num_workers=workers)
    seen = 0
    for number, (images, texts, targets) in enumerate(batches, 1):
        probabilities = torch.softmax(network(texts.to(device), images.to(device)), dim=1)
        loss = nn.functional.cross_entropy(probabilities, targets.to(device))
        (loss / 16).backward()
        loss.item()
        seen += len(targets)
        if number % 16 == 0 or seen == len(memes):
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return seen


class Labelled(Dataset):
    """(image, vector, label) for each meme."""

    def __init__(self, memes: Memes, labels: Tensor):
        self.memes, self.labels = memes, labels

    def __len__(self) -> int:
        return len(self.memes)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, Tensor]:
        return *self.memes[i], self.labels[i]


@torch.no_grad()
def predict(memes: Memes, network: nn.Module, workers: int) -> torch.Tensor:
    """P(hateful), float32 (N,), as the tutorial's `make_submission_frame` finds it.

    What is copied: batches of 4, in order; the network on the CPU in float32, its tensors in
    torch's default memory layout; each image decoded whole and each text given to fastText when
    its turn comes, in this process or in ``workers`` others (the tutorial sets 16).
    """
    batches = DataLoader(memes, batch_size=4, shuffle=False, num_workers=workers)
    parts = [torch.softmax(network.eval()(text, image), dim=1)[:, 1] for image, text in batches]
    return torch.cat(parts)
