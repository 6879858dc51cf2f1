"""Features of a frozen encoder: each computed once, the same whoever computes them."""

import threading

import pytest
import torch

from mmf_hm_concat.encoders.feature_store import FeatureStore
from mmf_hm_concat.encoders.torchvision_networks import TorchvisionEncoder
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.decode import normalize
from mmf_hm_concat.training.frozen_features import Inputs, frozen_features, identity_of
from mmf_hm_concat.training.precision import threads
from mmf_hm_concat.utils.parallel import num_cores

CPU = torch.device("cpu")
# 21 memes with 19 images.
KEYS = [f"image{n % 19}" for n in range(21)]
PIXELS = torch.randint(256, (19, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    network = TorchvisionEncoder("squeezenet1_1", "none", 7, "all")
    return network.to(memory_format=torch.channels_last)


def prepare(pixels):
    return normalize(pixels, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Reads:
    """Pixels by row; notes which were read, and fails at one of them."""

    def __init__(self, fails_at=None):
        self.rows, self.fails_at = [], fails_at
        self.inputs = Inputs(KEYS, "32px", self, prepare)

    def __call__(self, rows):
        if self.fails_at in rows:
            raise InputError("the disk is gone")
        self.rows += rows
        return PIXELS[[row % 19 for row in rows]]


def compute(encoder, reads, store=None, ranks=None):
    features, rows = frozen_features(encoder, reads.inputs, store, "fp32", CPU, ranks)
    assert features.dtype == torch.float32 and len(features) == 19
    return features[rows]


def test_each_is_computed_once_and_each_meme_has_its_own(encoder, tmp_path):
    reads = Reads()
    found = compute(encoder, reads)
    assert sorted(reads.rows) == list(range(19))
    batch = prepare(PIXELS[8:16].contiguous(memory_format=torch.channels_last))
    with torch.inference_mode(), threads(num_cores()):
        wanted = encoder.features(batch)
    assert torch.equal(found[8:16], wanted)
    assert torch.equal(found[19:], found[:2])


def test_the_disk_and_memory_give_the_same_bits(encoder, tmp_path):
    store = FeatureStore(tmp_path, identity_of(encoder, Reads().inputs, "fp32", CPU))
    found = compute(encoder, Reads(), store)
    assert torch.equal(found, compute(encoder, Reads()))
    again = Reads()
    assert torch.equal(found, compute(encoder, again, store))
    assert again.rows == []


def test_it_goes_on_where_it_was_cut_off(encoder, tmp_path):
    store = FeatureStore(tmp_path, {})
    with pytest.raises(InputError, match="the disk is gone"):
        compute(encoder, Reads(fails_at=17), store)
    again = Reads()
    found = compute(encoder, again, FeatureStore(tmp_path, {}))
    assert sorted(again.rows) == [16, 17, 18]
    assert torch.equal(found, compute(encoder, Reads()))


class ThreadRanks:
    """Ranks as threads of this process, which exchange what they share."""

    def __init__(self, count):
        self.count, self.barrier = count, threading.Barrier(count)
        self.parts, self.own = [None] * count, threading.local()

    def share(self, work):
        try:
            self.parts[self.own.rank] = work(self.own.rank, self.count)
        except InputError as error:
            self.parts[self.own.rank] = error
        self.barrier.wait(30)
        parts = list(self.parts)
        self.barrier.wait(30)
        for part in parts:
            if isinstance(part, InputError):
                raise InputError(str(part))
        return parts

    def on_first(self, work):
        return self.share(lambda rank, count: work() if rank == 0 else None)[0]


def on_ranks(count, work):
    ranks, results = ThreadRanks(count), [None] * count

    def run(rank):
        ranks.own.rank = rank
        try:
            results[rank] = work(ranks, rank)
        except InputError as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_ranks_share_the_work_and_all_have_the_same(encoder, tmp_path, count, shared):
    reads = [Reads() for _ in range(count)]
    alone = FeatureStore(tmp_path / "0", {})
    with pytest.raises(InputError):
        compute(encoder, Reads(fails_at=17), alone)  # some are there, on the first rank's machine

    def work(ranks, rank):
        folder = tmp_path / ("0" if shared else str(rank))
        return compute(encoder, reads[rank], FeatureStore(folder, {}), ranks)

    wanted = compute(encoder, Reads())
    assert all(torch.equal(found, wanted) for found in on_ranks(count, work))
    done = [row for each in reads for row in each.rows]
    assert len(done) == len(set(done))
    assert sorted(done) == [16, 17, 18]


def test_the_failure_of_one_rank_ends_all(encoder, tmp_path):
    def work(ranks, rank):
        reads = Reads(fails_at=9 if rank == 1 else None)
        return compute(encoder, reads, FeatureStore(tmp_path, {}), ranks)

    assert [str(each) for each in on_ranks(2, work)] == ["the disk is gone"] * 2
