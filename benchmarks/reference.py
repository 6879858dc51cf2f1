"""Input, network and training as the tutorial does them: everything anew for every meme.

Input: each sample opens and decodes the whole PNG, resizes, converts and normalises it with
torchvision, and asks fastText for the sentence vector. Batches come from a plain DataLoader with
one worker a core; the tutorial's own 16 workers and batches of 4 would only be slower on few cores.
Training: float32, batches of 4, gradients added up over 16 of them, the probabilities (not the
logits) into cross-entropy.
"""

from collections.abc import Sequence

import fasttext
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

from mmf_hm_concat.image_store import cores

BATCH = 32


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


class Network(nn.Module):
    """The concat-fusion network: probabilities (B, 2) from images (B, 3, H, W) and vectors."""

    def __init__(self, name: str, dim: int):
        super().__init__()
        self.text, self.image = nn.Linear(dim, 300), models.get_model(name, num_classes=300)
        self.fusion, self.classifier = nn.Linear(600, 256), nn.Linear(256, 2)
        self.dropout = nn.Dropout(0.1)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        both = torch.cat([torch.relu(self.text(text)), torch.relu(self.image(image))], dim=1)
        return torch.softmax(self.classifier(self.dropout(torch.relu(self.fusion(both)))), dim=1)


def train(memes: Memes, labels: Tensor, network: Network, workers: int) -> int:
    """One epoch, reading the loss after every batch for the log; returns the number of memes."""
    device = next(network.parameters()).device
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-5)
    rows = torch.randperm(len(memes)).tolist()
    batches = DataLoader(Labelled(memes, labels), 4, sampler=rows, num_workers=workers)
    seen = 0
    for number, (images, texts, targets) in enumerate(batches, 1):
        probabilities = network(images.to(device), texts.to(device))
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
