"""How MMF's `Configuration` is built with the plug-in: the methods that patches.py puts into it.

All that is wrong with a config of ours is found before anything is read or built, and said at once.
"""

import contextlib
import copy
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from mmf.common.registry import registry
from mmf.utils.configuration import Configuration, load_yaml
from mmf.utils.general import get_mmf_root
from omegaconf import DictConfig, ListConfig, OmegaConf

from mmf_hm_concat.config.check import (
    UNLISTED,
    Problems,
    check_values,
    keys_of_run,
    lookup,
    raise_problems,
    unknown,
)
from mmf_hm_concat.config.combinations import BRANCHES_OF_MMF, check_combinations
from mmf_hm_concat.config.description import OUR_MODEL
from mmf_hm_concat.config.yaml_files import Lines, list_over_group, read_lines, value_problem
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.models.build import IMAGE_ENCODERS, TEXT_ENCODERS
from mmf_hm_concat.models.fusions import FUSIONS
from mmf_hm_concat.training.checkpoints import BEST, CURRENT

# Groups whose keys a user invents: parameters handed to a class by name.
OPEN_GROUPS = ("params", "processors", "optimizer", "scheduler")

# YAML 1.1, which MMF's YAML files are read as: yaml.org/type/bool and yaml.org/type/null.
YAML_WORDS = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
    **dict.fromkeys(("null", "~"), None),
}

# Which no model of MMF has in its defaults; given_features.py reads it.
FEATURES_FILE_OF_MMF = rf"model_config\.\w+\.({'|'.join(BRANCHES_OF_MMF)})\.features_file"

CONFIGS = Path(__file__).parent.parent / "configs"

_build_opt_list = Configuration._build_opt_list
_build_user_config = Configuration._build_user_config
_build_model_config = Configuration._build_model_config
_build_dataset_config = Configuration._build_dataset_config
_build_demjson_config = Configuration._build_demjson_config
_merge_with_dotlist = Configuration._merge_with_dotlist
_decode_value = Configuration._decode_value


# ---- what was given ----


def build_opt_list(self: Configuration, opts: list[str] | None) -> DictConfig:
    """MMF's reading of the command line; a value that is not YAML is an InputError."""
    pairs = _pairs(opts)
    for key, value in pairs:
        if problem := value_problem(f"{key}={value}"):
            raise InputError(problem)
    try:
        return _build_opt_list(self, [f"{key}={value}" for key, value in pairs])
    except Exception as error:  # omegaconf's, as for `a=1 a.b=2`
        raise InputError(f"Command line: {_first_line(error)}") from None


def _pairs(opts: list[str] | None) -> list[tuple[str, str]]:
    """Key and value of each option, in either of MMF's forms: key=value ..., key value ..."""
    if not opts:
        return []
    if "=" not in opts[0]:
        if len(opts) % 2:
            raise InputError(f"Command line: {opts[-1]!r} has no value; options are key=value.")
        return list(zip(opts[0::2], opts[1::2], strict=True))
    for option in opts:
        if "=" not in option:
            raise InputError(f"Command line: {option!r} is not of the form key=value")
    return [(option.partition("=")[0], option.partition("=")[2]) for option in opts]


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
        raise InputError(f"--config_override: not JSON ({_first_line(error)}).") from None
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
    for key, value in _pairs(opts):
        _merge_option(self, config, key, value, problems)
    _hide_password(config)
    _follow_moved_run(self, config)
    _check(self, config, problems)
    return config


def _check(self: Configuration, config: DictConfig, problems: Problems) -> None:
    given = _plain(config, "", problems)
    is_ours = _is_ours(self)
    keys = keys_of_run(given)
    if is_ours:
        known = OmegaConf.to_container(self.defaults)
        for each in (self._user_config, self._override):
            # As they are written: what a ${...} stands for may be in neither of the two.
            problems |= _unknown_keys(OmegaConf.to_container(each) if each else {}, known, "")
    else:  # the rest is none of our business
        keys = {k: v for k, v in keys.items() if k.startswith((OUR_MODEL, "dataset_config."))}
    values = copy.deepcopy(given)
    problems |= {k: v for k, v in check_values(values, keys).items() if k not in problems}
    if is_ours:
        problems |= check_combinations(values, registered(), problems)
    for key in [key for key in problems if _stands_for(config, key) in problems]:
        del problems[key]  # said of the key it stands for
    raise_problems(problems, given, functools.partial(_where, self))
    for key in keys:
        new = lookup(values, key)
        if repr(new) != repr(lookup(given, key)) and _refers_to(config, key) is None:
            above, _, last = key.rpartition(".")
            parent = OmegaConf.select(config, above) if above else config
            parent[last] = new


def registered() -> dict[str, dict[str, Any]]:
    """The names that a config may use, by kind: what MMF's registry has, and our model's parts."""
    kinds = ("trainer", "optimizer", "scheduler", "loss", "metric", "processor")
    ours = {"fusion": FUSIONS, "text encoder": TEXT_ENCODERS, "image encoder": IMAGE_ENCODERS}
    return {kind: registry.mapping[f"{kind}_name_mapping"] for kind in kinds} | ours


def _plain(config: DictConfig, above: str, problems: Problems) -> dict[str, Any]:
    """``config`` as dicts, lists and values; a ${...} that stands for nothing is a problem."""
    values = {}
    for key in config:
        name = f"{above}.{key}" if above else str(key)
        try:
            value = config[key]
            if isinstance(value, DictConfig):
                value = _plain(value, name, problems)
            elif isinstance(value, ListConfig):
                value = OmegaConf.to_container(value, resolve=True)
        except (Exception, RecursionError) as error:
            problems[name] = f"cannot be read: {_first_line(error)}."
            continue
        values[key] = value
    return values


def _stands_for(config: DictConfig, key: str) -> str | None:
    """The key at the end of the interpolations that ``key`` begins; None in a circle."""
    seen = [key]
    while other := _refers_to(config, seen[-1]):
        if other in seen:
            return None
        seen.append(other)
    return seen[-1] if len(seen) > 1 else None


def _refers_to(config: DictConfig, key: str) -> str | None:
    """The key that ``key`` is an interpolation of."""
    match = re.fullmatch(r"\$\{([\w.]+)\}", str(_raw(config, key)))
    return match and match[1]


def _raw(config: Any, key: str) -> Any:
    """The value as it is written, ${...} and all."""
    *above, last = key.split(".")
    for part in above:
        config = config.get(part) if isinstance(config, DictConfig) else None
    node = config._get_node(last) if isinstance(config, DictConfig) else None
    return node._value() if node is not None else None


def _where(self: Configuration, key: str) -> str | None:
    """Where the value of ``key`` was given."""
    parts = key.split(".")
    above = {".".join(parts[:count]) for count in range(1, len(parts))}
    for option, value in _pairs(self.args.opts):
        name = "datasets" if option == "dataset" else re.sub(r"\[.*", "", option)
        # A whole group can be given as {...}.
        if key in (option, name) or (name in above and value.lstrip().startswith("{")):
            return "command line"
    if lookup(self._override, key) is not None:
        return "--config_override"
    if tuple(parts) in self._lines:
        return self._lines[tuple(parts)]
    variable = re.match(r"\$\{(?:env|resolve_\w+):\s*(\w+)", str(_raw(self.defaults, key)))
    if variable and variable[1] in os.environ:
        return f"environment variable {variable[1]}"
    return None


def _unknown_keys(given: Mapping, known: Mapping, above: str) -> Problems:
    """Keys of ``given`` that ``known`` lacks."""
    problems: Problems = {}
    for key, value in given.items():
        name = f"{above}.{key}" if above else str(key)
        if key in UNLISTED or re.fullmatch(FEATURES_FILE_OF_MMF, name):
            continue
        if key not in known:
            # Keys of a model or data set that this run does not use are nobody's mistake.
            if above not in ("model_config", "dataset_config"):
                problems[name] = unknown("key", key, known, above)
        elif key in OPEN_GROUPS:
            continue
        elif isinstance(value, Mapping) and isinstance(known[key], Mapping):
            problems |= _unknown_keys(value, known[key], name)
    return problems


def _hide_password(config: DictConfig) -> None:
    """Move the archive's password to the environment, where `find_layout` looks for it.

    The config is written to config.yaml, into every checkpoint, and maybe into a log.
    """
    dataset = _child(config.get("dataset_config"), "hm_competition")
    password = _child(dataset, "zip_password")
    if password is None:
        return
    if password != "$HM_ZIP_PASSWORD":  # which demjson.py puts in place of one that it took
        os.environ["HM_ZIP_PASSWORD"] = str(password)
    dataset.zip_password = None


def _follow_moved_run(self: Configuration, config: DictConfig) -> None:
    """Use a run where its config now lies, beside its checkpoint, not where it was trained."""
    folder = Path(str(self._opts_config.get("config"))).absolute().parent
    is_given = any(key in ("env", "env.save_dir") for key, _ in _pairs(self.args.opts))
    trains_anew = "train" in str(config.get("run_type")) and not (
        lookup(config, "evaluation.predict") or lookup(config, "checkpoint.resume")
    )
    if is_given or trains_anew or not any((folder / name).is_file() for name in (BEST, CURRENT)):
        return
    if isinstance(config.get("env"), Mapping):
        config.env.save_dir = str(folder)


# ---- the command line ----


def _merge_option(
    self: Configuration, config: DictConfig, key: str, value: str, problems: Problems
) -> None:
    *above, name = key.split(".")
    parent = functools.reduce(_child, above, config)
    node = _child(parent, name)
    try:
        if not isinstance(node, Mapping):
            with contextlib.redirect_stdout(None):  # MMF says again what was typed
                _merge_with_dotlist(self, config, [key, value])
        elif (decoded := decode_value(self, value)) is None:
            parent[name] = None
        elif isinstance(decoded, Mapping):
            parent[name] = OmegaConf.merge(node, decoded)
        else:
            problems[key] = (
                f"{key}={value[:60]}: {key} is a group of keys ({', '.join(node)}). Give one of "
                f"them, as {key}.{next(iter(node), 'key')}=..., or {key}=null."
            )
    except AttributeError:  # MMF's, for a key that is not there
        problems[key] = _why_unknown(config, key)
    except (Exception, RecursionError) as error:
        problems[key] = f"{value[:60]!r} cannot be a value: {_first_line(error)}."


def _why_unknown(config: Any, key: str) -> str:
    node, above = config, ""
    for part in ("datasets" if key == "dataset" else key).split("."):
        name = part.split("[")[0]
        if not isinstance(node, Mapping):
            return f"{above} is {'null' if node is None else node}, so it has no keys."
        if name not in node:
            return unknown("key", name, node, above)
        node, above = node[name], f"{above}.{name}" if above else name
    return f"{above} is {node}, so it has no such place."


def _child(node: Any, name: str) -> Any:
    return node.get(name) if isinstance(node, Mapping) else None


def decode_value(self: Configuration, value: Any) -> Any:
    """MMF's reading of a value of the command line, but bare words, {...} and [...] as in YAML.

    MMF took them for strings, so that `standardize_text=false` was as good as true.
    """
    if isinstance(value, str) and value.lower() in YAML_WORDS:
        return YAML_WORDS[value.lower()]
    decoded = _decode_value(self, value)
    if isinstance(decoded, str) and decoded.startswith(("{", "[")):
        try:
            return yaml.safe_load(decoded)
        except yaml.YAMLError:
            return decoded
    return decoded


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
