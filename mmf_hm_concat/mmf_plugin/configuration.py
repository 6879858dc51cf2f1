"""How MMF's `Configuration` is built with the plug-in: the methods that patches.py puts into it.

All that is wrong with a config of ours is found before anything is read or built, and said at once.
"""

import copy
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmf.common.registry import registry
from mmf.utils.configuration import Configuration, load_yaml
from mmf.utils.general import get_mmf_root
from omegaconf import DictConfig, OmegaConf

from mmf_hm_concat.config.check import (
    Problems,
    check_values,
    keys_of_run,
    lookup,
    raise_problems,
    unknown,
)
from mmf_hm_concat.config.combinations import check_combinations
from mmf_hm_concat.config.description import OUR_MODEL
from mmf_hm_concat.config.yaml_files import Lines, list_over_group, read_lines, value_problem
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin.command_line import merge_option, pairs_of
from mmf_hm_concat.mmf_plugin.config_tree import (
    as_written,
    child,
    first_line,
    plain_values,
    refers_to,
    stands_for,
    unknown_keys,
)
from mmf_hm_concat.models.build import IMAGE_ENCODERS, TEXT_ENCODERS
from mmf_hm_concat.models.fusions import FUSIONS
from mmf_hm_concat.training.checkpoints import BEST, CURRENT

CONFIGS = Path(__file__).parent.parent / "configs"

_build_opt_list = Configuration._build_opt_list
_build_user_config = Configuration._build_user_config
_build_model_config = Configuration._build_model_config
_build_dataset_config = Configuration._build_dataset_config
_build_demjson_config = Configuration._build_demjson_config
_merge_with_dotlist = Configuration._merge_with_dotlist


# ---- what was given ----


def build_opt_list(self: Configuration, opts: list[str] | None) -> DictConfig:
    """MMF's reading of the command line; a value that is not YAML is an InputError."""
    pairs = pairs_of(opts)
    for key, value in pairs:
        if problem := value_problem(f"{key}={value}"):
            raise InputError(problem)
    try:
        return _build_opt_list(self, [f"{key}={value}" for key, value in pairs])
    except Exception as error:  # omegaconf's, as for `a=1 a.b=2`
        raise InputError(f"Command line: {first_line(error)}") from None


def build_user_config(self: Configuration, opts: DictConfig) -> DictConfig:
    """MMF's reading of the YAML, which is checked as a text before."""
    _lines_of(opts.config)
    return _build_user_config(self, opts)


def _lines_of(file: Any) -> Lines:
    if file is None:
        return {}
    lines, problem = read_lines(str(file), Path(get_mmf_root()), os.environ.get("MMF_USER_DIR"))
    if problem:
        raise InputError(problem)
    return lines


def build_model_config(self: Configuration, opts: DictConfig) -> DictConfig:
    """MMF's defaults of the model named on the command line, else in the YAML."""
    # Once more: when MMF read the YAML of a command, the plug-in was not yet loaded.
    self._lines = _lines_of(opts.config)
    _make_nulls_plain(self._user_config)
    name = opts.model or self._user_config.get("model")
    if not isinstance(name, str):
        raise InputError(
            f"{'No model is named' if name is None else f'model = {name}: is no name'}. Add "
            "`model: concat_vl` to the YAML given with config=, or model=concat_vl to the command."
        )
    if registry.get_model_class(name) is None:
        raise InputError(unknown("model", name, registry.mapping["model_name_mapping"]))
    self._model_defaults = _build_model_config(self, OmegaConf.create({"model": name}))
    if _is_ours(self):
        ours = load_yaml(str(CONFIGS / "concat_trainer.yaml"))
        self._model_defaults = OmegaConf.merge(ours, self._model_defaults)
    return self._model_defaults


def _is_ours(self: Configuration) -> bool:
    """Whether `training.trainer` is concat_trainer, or no trainer at all and so to be reported."""
    for given in (self._opts_config, self._user_config):
        training = given.get("training")
        if isinstance(training, Mapping) and "trainer" in training:
            name = training["trainer"]
            return name in ("concat_trainer", None) or name not in registered()["trainer"]
    return False


def _make_nulls_plain(config: DictConfig, plain: Mapping | None = None) -> None:
    """In place: omegaconf 2.0 merges a group of keys that a null replaced as if it had no keys."""
    plain = OmegaConf.to_container(OmegaConf.create(config)) if plain is None else plain
    for key, value in plain.items():
        if value is None:
            del config[key]
            config[key] = None
        elif isinstance(value, dict):
            _make_nulls_plain(config[key], value)


def build_dataset_config(self: Configuration, opts: DictConfig) -> DictConfig:
    """MMF's defaults of the data sets named on the command line, else in the YAML."""
    names = opts.datasets or opts.dataset or self._user_config.get("datasets")
    if not names or not isinstance(names, str):
        raise InputError(
            f"{f'datasets = {names}: is no name' if names else 'No dataset is named'}. Add "
            "`datasets: hm_competition` to the YAML given with config=, or "
            "dataset=hm_competition to the command; several with commas between them."
        )
    for name in names.split(","):
        if registry.get_builder_class(name) is None:
            raise InputError(unknown("dataset", name, registry.mapping["builder_name_mapping"]))
    dataset_defaults = _build_dataset_config(self, OmegaConf.create({"datasets": names}))
    self.defaults = OmegaConf.merge(self._default_config, self._model_defaults, dataset_defaults)
    if key := _list_over_group(self, self._user_config):
        raise InputError(f"{self._lines[key]}: {'.'.join(key)} is a group of keys, not a list.")
    return dataset_defaults


def _list_over_group(self: Configuration, given: DictConfig) -> tuple[str, ...] | None:
    return list_over_group(OmegaConf.to_container(self.defaults), OmegaConf.to_container(given))


def build_demjson_config(self: Configuration, text: str | None) -> DictConfig:
    """MMF's reading of `--config_override`; what is no JSON object is an InputError."""
    try:
        self._override = _build_demjson_config(self, text)
    except Exception as error:
        raise InputError(f"--config_override: not JSON ({first_line(error)}).") from None
    if not isinstance(self._override, DictConfig):
        raise InputError('--config_override: give a JSON object, {"training": {...}}.')
    if key := _list_over_group(self, self._override):
        raise InputError(f"--config_override: {'.'.join(key)} is a group of keys, not a list.")
    return self._override


# ---- merged, and checked ----


def merge_with_dotlist(self: Configuration, config: DictConfig, opts: list[str]) -> DictConfig:
    """MMF's command-line overrides; then the whole config is checked.

    Raises:
        InputError: all that is wrong with it, each with key, value, place and remedy.
    """
    if not hasattr(self, "defaults"):  # MMF's defaults alone
        return _merge_with_dotlist(self, config, opts)
    problems: Problems = {}
    for key, value in pairs_of(opts):
        merge_option(self, config, key, value, problems)
    _hide_password(config)
    _follow_moved_run(self, config)
    _check(self, config, problems)
    return config


def _check(self: Configuration, config: DictConfig, problems: Problems) -> None:
    given = plain_values(config, "", problems)
    is_ours = _is_ours(self)
    keys = keys_of_run(given)
    if is_ours:
        known = OmegaConf.to_container(self.defaults)
        for each in (self._user_config, self._override):
            # As they are written: what a ${...} stands for may be in neither of the two.
            problems |= unknown_keys(OmegaConf.to_container(each) if each else {}, known, "")
    else:  # the rest is none of our business
        keys = {k: v for k, v in keys.items() if k.startswith((OUR_MODEL, "dataset_config."))}
    values = copy.deepcopy(given)
    problems |= {k: v for k, v in check_values(values, keys).items() if k not in problems}
    if is_ours:
        problems |= check_combinations(values, registered(), problems)
    for key in [key for key in problems if stands_for(config, key) in problems]:
        del problems[key]  # said of the key it stands for
    raise_problems(problems, given, functools.partial(_where, self))
    for key in keys:
        new = lookup(values, key)
        if repr(new) != repr(lookup(given, key)) and refers_to(config, key) is None:
            above, _, last = key.rpartition(".")
            parent = OmegaConf.select(config, above) if above else config
            parent[last] = new


def registered() -> dict[str, dict[str, Any]]:
    """The names that a config may use, by kind: what MMF's registry has, and our model's parts."""
    kinds = ("trainer", "optimizer", "scheduler", "loss", "metric", "processor")
    ours = {"fusion": FUSIONS, "text encoder": TEXT_ENCODERS, "image encoder": IMAGE_ENCODERS}
    return {kind: registry.mapping[f"{kind}_name_mapping"] for kind in kinds} | ours


def _where(self: Configuration, key: str) -> str | None:
    """Where the value of ``key`` was given."""
    parts = key.split(".")
    above = {".".join(parts[:count]) for count in range(1, len(parts))}
    for option, value in pairs_of(self.args.opts):
        name = "datasets" if option == "dataset" else re.sub(r"\[.*", "", option)
        # A whole group can be given as {...}.
        if key in (option, name) or (name in above and value.lstrip().startswith("{")):
            return "command line"
    if lookup(self._override, key) is not None:
        return "--config_override"
    if tuple(parts) in self._lines:
        return self._lines[tuple(parts)]
    variable = re.match(r"\$\{(?:env|resolve_\w+):\s*(\w+)", str(as_written(self.defaults, key)))
    if variable and variable[1] in os.environ:
        return f"environment variable {variable[1]}"
    return None


def _hide_password(config: DictConfig) -> None:
    """Move the archive's password to the environment, where `find_layout` looks for it.

    The config is written to config.yaml, into every checkpoint, and maybe into a log.
    """
    dataset = child(config.get("dataset_config"), "hm_competition")
    password = child(dataset, "zip_password")
    if password is None:
        return
    if password != "$HM_ZIP_PASSWORD":  # which demjson.py puts in place of one that it took
        os.environ["HM_ZIP_PASSWORD"] = str(password)
    dataset.zip_password = None


def _follow_moved_run(self: Configuration, config: DictConfig) -> None:
    """Use a run where its config now lies, beside its checkpoint, not where it was trained."""
    folder = Path(str(self._opts_config.get("config"))).absolute().parent
    is_given = any(key in ("env", "env.save_dir") for key, _ in pairs_of(self.args.opts))
    trains_anew = "train" in str(config.get("run_type")) and not (
        lookup(config, "evaluation.predict") or lookup(config, "checkpoint.resume")
    )
    if is_given or trains_anew or not any((folder / name).is_file() for name in (BEST, CURRENT)):
        return
    if isinstance(config.get("env"), Mapping):
        config.env.save_dir = str(folder)
