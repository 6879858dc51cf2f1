"""`hm_concat repeat --optuna N`: an Optuna study over settings, in `study.db` of `env.save_dir`.

Several processes may work on one study at once, on several machines where they share that folder:
each is the same command. A trial that is stopped or killed is tried again, from its checkpoint.
"""

import importlib.util
import json
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin.repeat import (
    Series,
    build_configs,
    checked_configs,
    in_fork,
    train,
    validation_of,
)
from mmf_hm_concat.reports.series import describe
from mmf_hm_concat.training.checkpoints import differences
from mmf_hm_concat.training.members import Member, bearing_on_result, parse_grid
from mmf_hm_concat.utils.locks import locked
from mmf_hm_concat.utils.text import counted, first_and_more

STUDY, DATABASE = "hm_concat", "study.db"
# A process that has not said for so many seconds that it lives is taken for killed.
HEARTBEAT, GRACE = 15, 60
# Two processes that write at once: the second waits, in seconds.
BUSY = 60.0
SHOWN = 10


class _TrialFailed(Exception):
    """A trial whose training ended badly; the study goes on without it."""


def search(
    config: str,
    options: Sequence[str],
    trials: int,
    seeds: int,
    space: Sequence[str],
    cache_dir: Path,
) -> int:
    """Train trials until the study has ``trials`` of them, and print the best.

    Args:
        config, options: see `repeat.Series`.
        trials: finished, failed and running ones of all processes together.
        seeds: members of each trial; its value is their mean.
        space: "key=a,b" to choose from, "key=low..high" for any number between them.
        cache_dir: see `reports.evaluation.evaluate`.

    Returns:
        The exit code: 0, or 1 when no trial has finished.

    Raises:
        InputError: optuna is not installed; the config or the space is wrong, or not the study's.
    """
    if importlib.util.find_spec("optuna") is None:
        raise InputError(
            "hm_concat repeat --optuna needs optuna: pip install -r requirements/search.txt, or "
            "pip install 'mmf_hm_concat[search]'."
        )
    if trials < 1:
        raise InputError(f"--optuna {trials}: give 1 or more.")
    choices = parse_grid(space)
    if not choices:
        raise InputError(
            "--optuna needs to know what to search: --grid key=a,b or key=low..high, as "
            "--grid optimizer.params.lr=1e-5..1e-3."
        )
    ranges = {key: _as_range(key, values) for key, values in choices.items()}
    series = Series(config, options)
    study = _open(series, choices, seeds)
    objective = _Objective(series, choices, ranges, seeds)
    while _count(study) < trials:
        try:
            study.optimize(objective, n_trials=1, catch=(_TrialFailed,))
        except KeyboardInterrupt:
            print("\nStopped. The same command goes on from here.", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
    return _summary(study, series, objective, cache_dir)


def _as_range(key: str, values: Sequence[str]) -> tuple[Any, Any] | None:
    """The ends of "low..high": both int, or both float; None for values to choose from."""
    if len(values) != 1 or ".." not in values[0]:
        return None
    low, _, high = values[0].partition("..")
    for kind in (int, float):
        try:
            ends = kind(low), kind(high)
        except ValueError:
            continue
        if ends[0] < ends[1]:
            return ends
    raise InputError(f"--grid {key}={values[0]}: give the lower number first, as 1e-5..1e-3.")


def _open(series: Series, choices: Mapping[str, list[str]], seeds: int) -> Any:
    """The study of ``series``, made by the first process that asks for it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Heartbeats have been experimental since 2021.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    folder = series.save_dir
    settings = [{key: _example(values) for key, values in choices.items()}]
    (example,) = in_fork(build_configs, [series.members(settings, 1)[0].options])
    if isinstance(example, InputError):
        raise example
    folder.mkdir(parents=True, exist_ok=True)
    directions = optuna.study.StudyDirection
    about = {"space": choices, "seeds": seeds, "config": bearing_on_result(example)}
    # Optuna makes the tables without looking whether another process does.
    with locked(folder / f"{DATABASE}.lock", "opens the study"):
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{folder.absolute() / DATABASE}",
            engine_kwargs={"connect_args": {"timeout": BUSY}},
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
        )
        is_new = not any(each.study_name == STUDY for each in storage.get_all_studies())
        study = optuna.create_study(
            study_name=STUDY,
            storage=storage,
            direction=directions.MINIMIZE if series.minimize else directions.MAXIMIZE,
            # Constant liar: trials that run at the same time keep away from each other. The seed is
            # the first process's alone: with it, others would draw the same trials.
            sampler=optuna.samplers.TPESampler(
                seed=series.first_seeds["training.seed"] if is_new else None, constant_liar=True
            ),
            load_if_exists=True,
        )
        if is_new:
            study.set_user_attr("about", json.dumps(about))
    known = json.loads(study.user_attrs.get("about", "{}"))
    if found := differences(known, json.loads(json.dumps(about))):
        raise InputError(
            f"{folder / DATABASE}: is a study of something else: "
            f"{', '.join(first_and_more(found, 5))}. Give another env.save_dir."
        )
    return study


def _example(values: Sequence[str]) -> str:
    return values[0].partition("..")[0] if len(values) == 1 else values[0]


def _count(study: Any) -> int:
    """Trials that are finished, failed or running now."""
    import optuna

    optuna.storages.fail_stale_trials(study)
    states = optuna.trial.TrialState
    return sum(
        trial.state in (states.COMPLETE, states.RUNNING)
        or (trial.state == states.FAIL and "failed" in trial.user_attrs)
        for trial in study.get_trials(deepcopy=False)
    )


class _Objective:
    """A trial of Optuna as members of the series; its value is the mean of their best."""

    def __init__(
        self,
        series: Series,
        choices: Mapping[str, list[str]],
        ranges: Mapping[str, tuple[Any, Any] | None],
        seeds: int,
    ):
        self.series, self.choices, self.ranges, self.seeds = series, choices, ranges, seeds

    def __call__(self, trial: Any) -> float:
        # One that is tried again has the folder of the first try, and so its checkpoint.
        number = trial.user_attrs.get("folder", trial.number)
        trial.set_user_attr("folder", number)
        for key in self.choices:
            self._suggest(trial, key)
        members = self.members(number, trial.params)
        print(f"[trial {trial.number}] {members[0].setting}", flush=True)
        try:
            configs = checked_configs(members)
            problems = [train(*each) for each in zip(members, configs, strict=True)]
        except InputError as error:
            problems = [str(error)]
        except KeyboardInterrupt:
            trial.study.enqueue_trial(trial.params, user_attrs={"folder": number})
            raise
        if problem := next(filter(None, problems), None):
            trial.set_user_attr("failed", problem)
            print(f"  failed: {problem}", flush=True)
            raise _TrialFailed(problem)
        return float(np.mean([validation_of(member) for member in members]))

    def _suggest(self, trial: Any, key: str) -> None:
        ends = self.ranges[key]
        if ends is None:
            trial.suggest_categorical(key, self.choices[key])
            return
        low, high = ends
        # Over a power of ten and more, its logarithm counts.
        is_wide = low > 0 and high / low >= 10
        suggest = trial.suggest_int if isinstance(low, int) else trial.suggest_float
        suggest(key, low, high, log=is_wide)

    def members(self, number: int, params: Mapping[str, Any]) -> list[Member]:
        # Six digits are as good as all, and make names that one can read.
        values = {key: params[key] for key in self.choices}
        setting = {k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in values.items()}
        folder = self.series.save_dir / f"trial-{number:04d}"
        return self.series.members([setting], self.seeds, folder)


def _summary(study: Any, series: Series, objective: _Objective, cache_dir: Path) -> int:
    import optuna

    states = optuna.trial.TrialState
    trials = study.get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state == states.COMPLETE]
    failed = [trial for trial in trials if "failed" in trial.user_attrs]
    running = sum(trial.state == states.RUNNING for trial in trials)
    parts = [f"{counted(len(finished), 'trial')} finished, {len(failed)} failed."]
    if running:
        parts.append(
            f"{counted(running, 'trial')} more: running in another process, or killed less than "
            f"{GRACE} seconds ago; then the same command tries again."
        )
    if not finished:
        print("\n" + "\n\n".join(parts))
        return 1
    finished.sort(key=lambda trial: trial.value if series.minimize else -trial.value)
    rows = [
        {
            "trial": trial.number,
            series.criterion: f"{trial.value:.4f}",
            "setting": objective.members(0, trial.params)[0].setting,
        }
        for trial in finished[:SHOWN]
    ]
    parts.append(f"The best on validation\n{pd.DataFrame(rows).to_string(index=False)}")
    best = finished[0]
    members = objective.members(best.user_attrs["folder"], best.params)
    try:
        runs = [str(member.folder) for member in members]
        parts.append(describe({members[0].setting: runs}, None, None, cache_dir))
    except InputError as error:  # a run of another model, or data without labels
        parts.append(f"The best trial is trained, but not evaluated: {error}")
    parts.append(
        f"The best of {counted(len(finished), 'trial')} on validation is partly the luckiest: "
        "judge it by a split that it was not chosen on, over several seeds."
    )
    print("\n" + "\n\n".join(parts))
    return 0
