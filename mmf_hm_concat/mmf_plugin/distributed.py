"""The processes of a run over several devices: how they meet, how they end, and who says why.

They are started by `torchrun`, or, where several GPUs are visible, by MMF itself, one a GPU.

Where one rank writes or decides and others rely on it, and what makes them agree:

==============================  ===================================================================
`training.seed: -1`             `on_first_rank` (`ConcatTrainer._agree_on_seed`)
dataset files, archives         MMF's builder: the first rank reads them, a barrier, then the others
text model: fitted              a lock of the cache (`utils.locks`); a copy in the run's folder by
                                `on_first_rank`
image cache                     its lock; rows are only appended, and compared by checksum
frozen features                 the first rank reads and writes the cache under its lock; each batch
                                is shared, and its features, or an error, go to all
checkpoint to start from        `on_first_rank` finds and mends it, `on_every_rank` loads it
earlier run set aside, config   `on_first_rank`
batches                         a share of the same order, from seed and epoch alone
metrics, so early stopping      `on_first_rank` computes them from all ranks' scores
checkpoints                     gathered random states; the first rank writes beside the training,
                                and nobody looks for one before `on_first_rank` says it is there
signals                         the highest number received by any rank, asked between updates
submission                      the first rank alone writes it, from all ranks' scores
==============================  ===================================================================

A wait for another rank, or for a lock, ends after `MAX_WAIT_MINUTES` with a message.
"""

import atexit
import gc
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from types import FrameType
from typing import Any, TypeVar

import torch
from mmf.utils.distributed import get_rank, get_world_size, is_master, suppress_output
from torch.multiprocessing.spawn import ProcessExitedException

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.utils.locks import MAX_WAIT_MINUTES

_spawn = torch.multiprocessing.spawn
T = TypeVar("T")

# The longest that ranks wait for each other: while one decodes all images, say.
TIMEOUT = timedelta(minutes=MAX_WAIT_MINUTES)


def join_process_group() -> None:
    """Under `torchrun`, start the process group before MMF does.

    Raises:
        InputError: the environment is not what torchrun sets, or a rank did not come.
    """
    if "RANK" not in os.environ or torch.distributed.is_initialized():
        return
    try:
        numbers = {key: int(os.environ.get(key, 1)) for key in ("WORLD_SIZE", "RANK")}
    except ValueError as error:
        raise InputError(f"WORLD_SIZE and RANK must be whole numbers ({error}).") from None
    if numbers["WORLD_SIZE"] == 1:
        os.environ.pop("WORLD_SIZE", None)  # MMF refuses a group of one: let it run without one
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # MMF would take the first for all
    try:
        torch.distributed.init_process_group("nccl" if cuda else "gloo", timeout=TIMEOUT)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"The {numbers['WORLD_SIZE']} ranks of this run did not find each other "
            f"({str(error).splitlines()[0]}). Start all of them with torchrun, with the same "
            "MASTER_ADDR and a free MASTER_PORT."
        ) from None
    atexit.register(leave_process_group)
    suppress_output(is_master())  # as MMF does where it starts the group itself
    warnings.filterwarnings("ignore", message="Distributed is already initialized")


def leave_process_group() -> None:
    """End the group and its threads, if there is one.

    A thread of gloo lets go of the last tensors that were sent, for which it needs Python's lock.
    Where the interpreter ends before, that thread is cut off in C++ and the process aborts. Where
    the group is freed by the model's reducer, which holds the lock, both wait for ever. So the
    model goes first, and torch, which frees the group without the lock, joins the threads.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()


def on_first_rank(work: Callable[[], T]) -> T:
    """Call ``work`` on the first rank only, and return its result, or raise its error, on all.

    Whatever one rank writes or decides and the others rely on goes through here: when it returns,
    it is done on the first rank, for all.

    Args:
        work: what it returns must be small, and is pickled. Its InputError is raised everywhere.
    """
    if get_world_size() == 1:
        return work()
    outcome: list[Any] = [None, None]
    if is_master():
        try:
            outcome[0] = work()
        except InputError as error:
            outcome[1] = str(error)
    torch.distributed.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise InputError(outcome[1])
    return outcome[0]


def on_every_rank(work: Callable[[], T]) -> T:
    """Call ``work`` on every rank and return each one's result; an InputError of one ends all."""
    if get_world_size() == 1:
        return work()
    result: Any = None
    problem = None
    try:
        result = work()
    except InputError as error:
        problem = f"Rank {get_rank()}: {error}"
    problems = [None] * get_world_size()
    torch.distributed.all_gather_object(problems, problem)
    if found := next(filter(None, problems), None):
        raise InputError(found)
    return result


def mean_in_rank_order(
    state: None, bucket: torch.distributed.GradBucket
) -> torch.futures.Future[torch.Tensor]:
    """A hook of `DistributedDataParallel`: the ranks' mean gradient, added up by rank.

    Gloo's own sum adds in an order that depends on a gradient's place in the bucket, and torch lays
    out the buckets anew after the first update, also after that of a resumed run: with three ranks
    or more, a resumed run would end with other bits.
    """
    own = bucket.buffer()
    parts = [torch.empty_like(own) for _ in range(get_world_size())]
    torch.distributed.all_gather(parts, own)
    total = parts[0]
    for part in parts[1:]:
        total += part
    mean: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    mean.set_result(total.div_(len(parts)))
    return mean


def lost_rank(error: BaseException) -> InputError | None:
    """What to say for an error of gloo or NCCL: another rank is gone or late. None for others."""
    if not torch.distributed.is_initialized() or not isinstance(error, RuntimeError):
        return None
    if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error):
        return None
    return InputError(
        f"Rank {get_rank()} lost another rank, which ended or did not answer for "
        f"{MAX_WAIT_MINUTES:g} minutes: its own message says why "
        f"({str(error).splitlines()[0][:200]}). checkpoint.resume=true goes on from the last "
        "checkpoint."
    )


def write_to_log(message: str) -> None:
    """Write why a run ends into its train.log, where it has one; the terminal gets it otherwise."""
    logger = logging.getLogger("mmf.train")
    record = logger.makeRecord(logger.name, logging.ERROR, "", 0, message, (), None)
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


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
    is that of the rank that ended first. The ranks' InputErrors are printed here, each once.
    """
    if fn.__module__ != "mmf_cli.run":
        return _spawn(fn, args, nprocs, **others)
    messages = torch.multiprocessing.get_context("spawn").SimpleQueue()
    context = torch.multiprocessing.start_processes(
        _run_rank, (messages, fn, *args), nprocs, join=False
    )

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
        told = set()
        while not messages.empty():
            told.add(messages.get())
        for message in sorted(told):
            sys.stderr.write(f"error: {message}\n")
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


def _run_rank(index: int, messages: Any, fn: Callable[..., None], *args: Any) -> None:
    try:
        fn(index, *args)
    except (InputError, RuntimeError) as error:
        told = error if isinstance(error, InputError) else lost_rank(error)
        if told is None:
            raise
        write_to_log(str(told))
        messages.put(str(told))
        sys.exit(1)
    except KeyboardInterrupt:  # torch would take it for success
        sys.exit(128 + signal.SIGINT)
    finally:
        leave_process_group()
