"""How many loader workers `training.num_workers: auto` means, on machines larger than this one."""

import pytest
import torch
from mmf.common.registry import registry

from mmf_hm_concat.mmf_plugin import decode_ahead, loaders


class Cached:
    is_cached = True


class Decoding(Cached):
    is_decoding = True


@pytest.mark.parametrize(
    ("cores", "ranks", "uncached", "cached_on_gpu"),
    [(1, 1, 1, 0), (2, 1, 2, 1), (16, 1, 8, 2), (16, 4, 4, 2), (64, 8, 8, 2), (2, 3, 1, 0)],
)
def test_the_ranks_of_a_machine_share_its_cores(monkeypatch, cores, ranks, uncached, cached_on_gpu):
    monkeypatch.setattr(loaders, "num_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert loaders.choose_workers("auto", object(), cpu) == uncached
    assert loaders.choose_workers("auto", Cached(), gpu) == cached_on_gpu
    assert loaders.choose_workers("auto", Cached(), cpu) == 0
    assert loaders.choose_workers(5, Cached(), gpu) == 5
    assert loaders.choose_workers("auto", Decoding(), gpu) == 0


def test_without_a_trainer_nothing_is_on_a_gpu():
    registry.unregister("current_device")
    assert not decode_ahead.on_gpu()
    registry.register("current_device", torch.device("cuda"))
    assert decode_ahead.on_gpu()
    registry.unregister("current_device")
