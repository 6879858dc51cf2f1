"""Which memes make up which batch: deterministic, resumable, shared among ranks."""

from collections.abc import Iterator, Sequence

import torch

# Memes that are evaluated together, by kind of device: see EvalBatchSampler.
EVALUATION_BATCH = {"cpu": 8, "cuda": 128}
# Pixels of a side from which on they are fewer, so that any size fits into the memory.
LARGE = 1024


def evaluation_batch(device: str, image_size: int) -> int:
    """How many memes are evaluated together.

    Args:
        device: its kind.
        image_size: side of the images in pixels; 0 for none.
    """
    fewer = max(1, image_size / LARGE) ** 2
    return max(1, int(EVALUATION_BATCH[device] / fewer))


class TrainBatchSampler:
    """Batches of row numbers of one epoch, for `DataLoader(batch_sampler=...)`.

    The order of epoch e depends on ``seed`` and e alone. Every rank gets its `share` of each
    batch, so that the effective batch is the same whatever their number. A rank whose share is
    empty (fewer rows than ranks) reads the batch's first row, which the train step counts as
    nothing: it must still compute, because the ranks exchange gradients together.

    Args:
        rows: number of memes.
        batch_size: rows of one batch, over all ranks.
        rank, ranks: this process and the number of them.
    """

    def __init__(self, rows: int, batch_size: int, seed: int, rank: int = 0, ranks: int = 1):
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.rank, self.ranks = rank, ranks
        self.epoch = 0
        self.skip = 0  # batches of this epoch that an earlier, interrupted process has done

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.rows, generator=generator).tolist()
        for start in range(self.skip * self.batch_size, self.rows, self.batch_size):
            batch = order[start : start + self.batch_size]
            yield batch[share(len(batch), self.rank, self.ranks)] or batch[:1]

    def sizes(self) -> list[int]:
        """How many rows each batch left in this epoch has, over all ranks."""
        starts = range(self.skip * self.batch_size, self.rows, self.batch_size)
        return [min(self.batch_size, self.rows - start) for start in starts]

    def __len__(self) -> int:
        """Batches left in this epoch."""
        return len(self.sizes())


def share(rows: int, rank: int, ranks: int) -> slice:
    """Which of a batch's rows a rank gets: equal parts, but for one more for the first ranks.

    The first rank, whose batch norm statistics count, always has a row.
    """
    part, rest = divmod(rows, ranks)
    start = rank * part + min(rank, rest)
    return slice(start, start + part + (rank < rest))


class EvalBatchSampler:
    """Batches of row numbers in order, each row once over all ranks, for `batch_sampler=`.

    Every batch has exactly ``batch_size`` rows; the last is filled up with its last row. Which
    rows share a batch depends on neither the ranks nor the user's batch size: arithmetic on a
    batch of another shape may round otherwise, and predictions are to be the same bits.
    """

    def __init__(self, rows: int, batch_size: int, rank: int = 0, ranks: int = 1):
        starts = range(0, rows, batch_size)[rank::ranks]
        self.batches = [[min(i + k, rows - 1) for k in range(batch_size)] for i in starts]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)

    def rows_read(self) -> list[int]:
        """All row numbers of this rank as the loader reads them, repetitions included."""
        return [row for batch in self.batches for row in batch]


def dataset_order(batches: Sequence[int], seed: int, epoch: int, proportional: bool) -> list[int]:
    """Which of several data sets each batch of an epoch comes from, mixed at random.

    Args:
        batches: how many each data set has.
        proportional: all of them; else as many of each as the smallest has.
    """
    counts = batches if proportional else [min(batches)] * len(batches)
    order = [index for index, count in enumerate(counts) for _ in range(count)]
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return [order[i] for i in torch.randperm(len(order), generator=generator).tolist()]
