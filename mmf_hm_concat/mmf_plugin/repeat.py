"""`hm_concat repeat`: one training over seeds and settings, and what comes of it.

Each member trains in a process of its own, forked from this one after MMF and torch were imported:
it starts at once, leaves nothing behind for the next, and can fail alone.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from mmf_cli.run import run as mmf_run

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin.distributed import print_input_error
from mmf_hm_concat.mmf_plugin.patches import install
from mmf_hm_concat.mmf_plugin.show_config import build_config, config_file
from mmf_hm_concat.reports.series import describe, ranked
from mmf_hm_concat.training import checkpoints
from mmf_hm_concat.training.members import (
    Member,
    all_settings,
    is_finished,
    make_members,
    note,
    parse_grid,
)
from mmf_hm_concat.utils.text import counted, first_and_more

SAMPLING_SEED = "dataset_config.hm_competition.sampling_seed"
# Exit codes of a member that was told to stop: it has saved, or had nothing to save yet.
STOPPED = tuple(
    code for each in (signal.SIGINT, signal.SIGTERM) for code in (128 + each, -int(each))
)


class Series:
    """The members of one config, and how to train one.

    Args:
        config: a YAML file, or a project's name.
        options: key=value, for all members.

    Raises:
        InputError: the config is wrong, or not one of a training.
    """

    def __init__(self, config: str, options: Sequence[str]):
        if wrong := [option for option in options if "=" not in option]:
            raise InputError(f"{wrong[0]!r} is not of the form key=value.")
        self.options = [f"config={config_file(config)}", *options]
        (first,) = in_fork(build_configs, [self.options])
        if isinstance(first, InputError):
            raise first
        self.save_dir = Path(first["env"]["save_dir"])
        self.criterion = first["training"]["early_stop"]["criteria"]
        self.minimize = bool(first["training"]["early_stop"]["minimize"])
        if "train" not in first["run_type"]:
            raise InputError(f"run_type = {first['run_type']!r}: hm_concat repeat trains.")
        if first["training"]["trainer"] != "concat_trainer":
            raise InputError(
                f"training.trainer = {first['training']['trainer']!r}: hm_concat repeat resumes, "
                "which concat_trainer alone can do reliably."
            )
        seed = first["training"]["seed"]
        if not isinstance(seed, int) or seed < 0:
            raise InputError(
                f"training.seed = {seed}: hm_concat repeat counts on from a fixed seed. Add "
                "training.seed=42."
            )
        self.first_seeds = {"training.seed": seed}
        data = first["dataset_config"].get("hm_competition")
        # Which memes are drawn to balance the classes is chance, too; unless it is held.
        is_held = any(option.startswith(f"{SAMPLING_SEED}=") for option in options)
        if "hm_competition" in first["datasets"].split(",") and not is_held:
            self.first_seeds[SAMPLING_SEED] = data["sampling_seed"]

    def members(
        self, settings: Sequence[dict[str, str]], seeds: int, save_dir: Path | None = None
    ) -> list[Member]:
        """See `training.members.make_members`."""
        for key in ("env.save_dir", "training.seed", SAMPLING_SEED, "checkpoint.resume"):
            if any(key in setting for setting in settings):
                raise InputError(f"--grid: {key} is set by hm_concat repeat itself.")
        if seeds < 1:
            raise InputError(f"--seeds {seeds}: give 1 or more.")
        return make_members(
            save_dir or self.save_dir, self.options, settings, seeds, self.first_seeds
        )


def repeat(
    config: str, options: Sequence[str], seeds: int, grid: Sequence[str], cache_dir: Path
) -> int:
    """Train what is not yet trained, and print what it comes to.

    Args:
        config, options: see `Series`.
        seeds: how many, from the config's own on.
        grid: "key=a,b" each.
        cache_dir: see `reports.evaluation.evaluate`.

    Returns:
        The exit code: 0, or 1 when a member is not finished.

    Raises:
        InputError: something is wrong with the config of a member (before any is trained).
    """
    series = Series(config, options)
    members = series.members(all_settings(parse_grid(grid)), seeds)
    problems = train_all(members)
    if problems:
        print(f"\n{counted(len(problems), 'member')} of {len(members)} not finished:")
        print(*[f"  {folder}: {why}" for folder, why in problems.items()], sep="\n")
        print("The same command tries again, and leaves out what is finished.")
    finished: dict[str, list[Member]] = {}
    for member in members:
        if member.folder not in problems:
            finished.setdefault(member.setting, []).append(member)
    if finished:
        print(f"\n{_summary(series, finished, cache_dir)}")
    return 1 if problems else 0


def train_all(members: Sequence[Member]) -> dict[Path, str]:
    """Train each that is not finished; returns why a folder is not finished now.

    Raises:
        InputError: see `checked_configs`.
    """
    configs = checked_configs(members)
    problems = {}
    for at, (member, config) in enumerate(zip(members, configs, strict=True), 1):
        print(f"[{at}/{len(members)}] {member.folder}", flush=True)
        try:
            problem = train(member, config)
        except KeyboardInterrupt:
            print("\nStopped. The same command goes on from here.", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
        if problem is not None:
            print(f"  {problem}", flush=True)
            problems[member.folder] = problem
    return problems


def _summary(series: Series, finished: Mapping[str, Sequence[Member]], cache_dir: Path) -> str:
    runs = {setting: [str(m.folder) for m in members] for setting, members in finished.items()}
    try:
        parts = [describe(runs, None, None, cache_dir)]
    except InputError as error:  # a run of another model, or data without labels
        parts = [f"The runs are trained, but not evaluated: {error}"]
    if len(finished) > 1:
        values = {setting: [validation_of(m) for m in ms] for setting, ms in finished.items()}
        parts.append(ranked(values, series.criterion, series.minimize))
    return "\n\n".join(parts)


def checked_configs(members: Sequence[Member]) -> list[dict[str, Any]]:
    """The config of each member.

    Raises:
        InputError: with all that is wrong with any of them, or a folder that holds another run.
    """
    configs = in_fork(build_configs, [member.options for member in members])
    wrong = {
        str(config): member.setting or f"seed {member.seed}"
        for member, config in zip(members, configs, strict=True)
        if isinstance(config, InputError)
    }
    if wrong:
        lines = [f"{where}: {message}" for message, where in wrong.items()]
        raise InputError("\n".join(first_and_more(lines, 5)))
    for member, config in zip(members, configs, strict=True):
        is_finished(member, config)  # raises for one that was trained with another config
    return configs


def train(member: Member, config: dict[str, Any]) -> str | None:
    """Train a member to its end, from where an earlier command has left it.

    Returns:
        None when it is finished, else why it is not.

    Raises:
        InputError: its folder holds something else.
        KeyboardInterrupt: this command was told to stop; the member has saved.
    """
    member.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(member.folder / "member.lock", blocking=False):
            if is_finished(member, config):
                print("  finished already")
                return None
            note(member, config, finished=False)
            code, is_stopped = _run_in_fork(member.options)
            if code in STOPPED:
                raise KeyboardInterrupt
            if code and not is_stopped:
                return f"ended with exit code {code}; see above, and {member.folder / 'train.log'}"
            if not code and not (member.folder / checkpoints.BEST).is_file():
                return "left no checkpoint"
            note(member, config, finished=not code)
            if is_stopped:
                raise KeyboardInterrupt
            return None
    except Timeout:
        return "another process is training it"


def validation_of(member: Member) -> float:
    """The best value of `training.early_stop.criteria` that a finished member reached."""
    state = checkpoints.load_checkpoint(member.folder / checkpoints.BEST)
    return float(state["best_metric_value"])


# ---- processes ----


def build_configs(all_options: Sequence[Sequence[str]]) -> list[dict[str, Any] | InputError]:
    """The merged and checked config of each; an InputError in place of one that is wrong."""
    found: list[dict[str, Any] | InputError] = []
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        for options in all_options:
            try:
                found.append(build_config(list(options))[0])
            except InputError as error:
                found.append(error)
    return found


def in_fork(work: Callable[[Any], Any], argument: Any) -> Any:
    """``work(argument)`` in a process of its own: what it changes is gone with it."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=_send, args=(sender, work, argument))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise InputError("The config could not be read; see above.") from None
    finally:
        process.join()


def _send(sender: Connection, work: Callable[[Any], Any], argument: Any) -> None:
    sender.send(work(argument))


def _run_in_fork(options: Sequence[str]) -> tuple[int, bool]:
    """`mmf_run` with ``options``: its exit code, and whether we were asked to stop meanwhile.

    The code is negative for a signal that ended it. It may be 0 although we were asked: the
    request came too late for this training, but not for those after it.
    """
    process = multiprocessing.get_context("fork").Process(target=_run, args=(list(options),))
    requests = []

    def hand_on(number: int, frame: Any) -> None:
        requests.append(number)
        if process.is_alive():
            os.kill(process.pid, number)  # type: ignore[arg-type]

    before = {each: signal.signal(each, hand_on) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        process.start()
        process.join()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return process.exitcode or 0, bool(requests)


def _run(options: list[str]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.getLogger().handlers.clear()  # MMF logs to the terminal, too
    try:
        install()
        mmf_run(options)
    except InputError as error:
        print_input_error(error)
        sys.exit(1)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
