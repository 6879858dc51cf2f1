"""What a processor could do at best: as if the network were one large product of matrices."""

import torch
from torch import nn
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from mmf_hm_concat.training.precision import FORMATS


def bound(
    network: nn.Module, precision: str, device: torch.device, trains: bool
) -> tuple[float, str]:
    """Samples/s at most; and a line that says why: FLOP for one meme of 224 pixels, FLOP/s here.

    Args:
        network: (text (B, 150), image (B, 3, 224, 224)) -> logits, on ``device``.
        trains: whether to count the backward pass, too.
    """
    text, image = torch.randn(2, 150, device=device), torch.randn(2, 3, 224, 224, device=device)
    with FlopCounterMode(display=False) as counter:
        logits = network(text, image)
        if trains:
            logits.sum().backward()
    network.zero_grad(set_to_none=True)
    size = 8192 if device.type == "cuda" else 4096
    matrix = torch.randn(size, size, device=device, dtype=FORMATS[precision])
    timer = Timer("a @ a", globals={"a": matrix}, num_threads=torch.get_num_threads())
    product = timer.blocked_autorange(min_run_time=2)
    flop, speed = counter.get_total_flops() / 2, 2 * size**3 / min(product.times)
    return speed / flop, (
        f"bound: {speed / flop:.1f} samples/s: a meme takes {flop / 1e9:.1f} GFLOP, and a large "
        f"product of matrices in {precision} runs at {speed / 1e9:.0f} GFLOP/s"
    )
