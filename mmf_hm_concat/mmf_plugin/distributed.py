"""The processes of a run over several devices: how they meet, how they end, and who says why.

They are started by `torchrun`, or, where several GPUs are visible, by MMF itself, one a GPU.
"""

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from mmf.utils.distributed import is_master, suppress_output
from torch.multiprocessing.spawn import ProcessExitedException

from mmf_hm_concat.errors import InputError

_spawn = torch.multiprocessing.spawn


def join_process_group() -> None:
    """Under `torchrun`, start the process group before MMF does."""
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    if "RANK" not in os.environ or torch.distributed.is_initialized():
        return
    if world_size == 1:
        del os.environ["WORLD_SIZE"]  # MMF refuses a group of one: let it run without one
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # MMF would take the first for all
        torch.distributed.init_process_group("nccl")
    else:
        torch.distributed.init_process_group("gloo")
    suppress_output(is_master())  # as MMF does where it starts the group itself
    warnings.filterwarnings("ignore", message="Distributed is already initialized")


def print_input_error(error: InputError) -> None:
    """Print the message for the user; one that several ranks have, once."""
    if not is_master():
        time.sleep(2)  # if the first has it, too, whoever started us ends us meanwhile
    sys.stderr.write(f"error: {error}\n")  # MMF silences `print` on all ranks but the first


def spawn(
    fn: Callable[..., None], args: tuple[Any, ...] = (), nprocs: int = 1, **others: Any
) -> Any:
    """`torch.multiprocessing.spawn`, but for MMF's ranks: signals reach them, and they end well.

    SIGTERM and SIGINT are passed on and the ranks waited for, so that they can save. The exit code
    is that of the rank that ended first; a rank prints its own InputError.
    """
    if fn.__module__ != "mmf_cli.run":
        return _spawn(fn, args, nprocs, **others)
    context = torch.multiprocessing.start_processes(_run_rank, (fn, *args), nprocs, join=False)

    received = 0

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = number
        for process in context.processes:
            if process.is_alive():
                os.kill(process.pid, number)

    previous = {s: signal.signal(s, pass_on) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        while not context.join():
            pass
    except ProcessExitedException as error:
        if received or error.exit_code > 0:
            sys.exit(128 + received if received else error.exit_code)
        raise InputError(
            f"Rank {error.error_index} was ended from outside, by {error.signal_name}; when "
            "memory runs out, the system does so. checkpoint.resume=true goes on."
        ) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return None


def _run_rank(index: int, fn: Callable[..., None], *args: Any) -> None:
    try:
        fn(index, *args)
    except InputError as error:
        print_input_error(error)
        sys.exit(1)
    except KeyboardInterrupt:  # torch would take it for success
        sys.exit(128 + signal.SIGINT)
