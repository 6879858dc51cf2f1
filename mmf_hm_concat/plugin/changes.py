"""Everything of MMF 1.0.0rc10 that this plug-in replaces at run time, and why.

MMF's files stay as published; these are methods of `Configuration` wrapped in memory, plus the
hook that prints our own errors. What a wrapped method did before it still does.

===============================  ==================================================================
`_build_model_config`            reads `model=` from the command line only; now the YAML's, too;
                                 and adds the keys that only `concat_trainer` knows
`_build_dataset_config`          likewise `dataset=`; then unknown keys of the YAML are reported
`_merge_with_dotlist`            an unknown key ended in a traceback; a value could not hold a `=`;
                                 and a password must not stay in a config that gets saved
`_decode_value`                  `key=false` was the string "false", which counts as true
`sys.excepthook`                 an `InputError` is one message for the user, not a traceback
process group                    under `torchrun`, MMF insists on CUDA and puts all ranks on the
                                 first device: the group is started here, gloo on CPUs
===============================  ==================================================================
"""

import difflib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmf.common.registry import registry
from mmf.utils.configuration import Configuration, load_yaml
from mmf.utils.distributed import is_master, suppress_output
from omegaconf import DictConfig, OmegaConf

from mmf_hm_concat.errors import InputError

# Nodes whose keys a user invents: parameters handed to a class by name.
OPEN_NODES = ("params", "processors", "optimizer", "scheduler", "splits", "losses")

# YAML 1.1, which MMF's YAML files are read as: yaml.org/type/bool and yaml.org/type/null.
YAML_WORDS = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
    **dict.fromkeys(("null", "~"), None),
}

CONFIGS = Path(__file__).parent.parent / "configs"

_build_model_config = Configuration._build_model_config
_build_dataset_config = Configuration._build_dataset_config
_merge_with_dotlist = Configuration._merge_with_dotlist
_decode_value = Configuration._decode_value


def build_model_config(self: Configuration, opts: DictConfig) -> DictConfig:
    """MMF's defaults of the model named on the command line, else in the YAML."""
    name = opts.model or self._user_config.get("model")
    if name is None:
        raise InputError(
            "No model is named. Add `model: concat_vl` to the YAML given with config=, "
            "or model=concat_vl to the command."
        )
    if registry.get_model_class(name) is None:
        raise InputError(unknown("model", name, registry.mapping["model_name_mapping"]))
    self._model_defaults = OmegaConf.merge(
        load_yaml(str(CONFIGS / "concat_trainer.yaml")),
        _build_model_config(self, OmegaConf.create({"model": name})),
    )
    return self._model_defaults


def build_dataset_config(self: Configuration, opts: DictConfig) -> DictConfig:
    """MMF's defaults of the data sets named on the command line, else in the YAML."""
    names = opts.datasets or opts.dataset or self._user_config.get("datasets")
    if not names:
        raise InputError(
            "No dataset is named. Add `datasets: hm_competition` to the YAML given with "
            "config=, or dataset=hm_competition to the command."
        )
    for name in names.split(","):
        if registry.get_builder_class(name) is None:
            raise InputError(unknown("dataset", name, registry.mapping["builder_name_mapping"]))
    dataset_defaults = _build_dataset_config(self, OmegaConf.create({"datasets": names}))
    # A YAML of MMF's own projects is none of our business.
    if self._user_config.get("training", {}).get("trainer") == "concat_trainer":
        known = OmegaConf.merge(self._default_config, self._model_defaults, dataset_defaults)
        check_keys(self._user_config, known, self.config_path)
    return dataset_defaults


def check_keys(given: Mapping, known: Mapping, file: str | None) -> None:
    """Raise InputError for keys of ``given`` that ``known`` lacks, all of them in one message."""
    problems = list(_unknown_keys(given, known, ()))
    if problems:
        raise InputError(f"{file}: " + "\n".join(problems))


def _unknown_keys(given: Mapping, known: Mapping, above: tuple[str, ...]) -> Iterator[str]:
    for key, value in given.items():
        path = (*above, key)
        if key not in known:
            # Settings of a model or data set that this run does not use are nobody's mistake.
            if above not in (("model_config",), ("dataset_config",)):
                yield unknown("key", key, known, above)
        elif key in OPEN_NODES:
            continue
        elif isinstance(value, Mapping) and isinstance(known[key], Mapping):
            yield from _unknown_keys(value, known[key], path)


def unknown(kind: str, name: str, known: Any, above: tuple[str, ...] = ()) -> str:
    """A message about a name that there is not, with those that are near it, or all."""
    near = difflib.get_close_matches(name, list(known), n=3)
    known = near or sorted(known)
    names = ", ".join(".".join((*above, each)) for each in known)
    hint = f"Did you mean {names}?" if near else f"Known: {names}."
    return f"there is no {kind} {'.'.join((*above, name))!r}. {hint}"


def merge_with_dotlist(self: Configuration, config: DictConfig, opts: list[str]) -> DictConfig:
    """MMF's command-line overrides; an unknown key is named with its nearest relatives."""
    config = _merge_options(self, config, opts)
    _hide_password(config)
    return config


def _hide_password(config: DictConfig) -> None:
    """Move the archive's password to the environment, where `open_release` looks for it.

    The config is written to config.yaml, into every checkpoint, and maybe into a log.
    """
    settings = config.get("dataset_config", {}).get("hm_competition")
    password = settings and settings.get("zip_password")
    if password is None:
        return
    if password != "$HM_ZIP_PASSWORD":  # which demjson.py puts in place of one that it took
        os.environ["HM_ZIP_PASSWORD"] = str(password)
    settings.zip_password = None


def _merge_options(self: Configuration, config: DictConfig, opts: list[str]) -> DictConfig:
    if opts and "=" in opts[0]:
        for option in opts:
            if "=" not in option:
                raise InputError(f"Command line: {option!r} is not of the form key=value")
        # As MMF's other form, key value key value ..., a value may hold a `=` itself.
        opts = [part for option in opts for part in option.split("=", 1)]
    try:
        return _merge_with_dotlist(self, config, opts)
    except AttributeError:
        for key in opts[0::2]:
            node, above = config, ()
            for part in ("datasets" if key == "dataset" else key).split("."):
                name = part.split("[")[0]
                if not isinstance(node, Mapping) or name not in node:
                    known = node if isinstance(node, Mapping) else {}
                    problem = unknown("key", name, known, above)
                    raise InputError(f"Command line, {key}: {problem}") from None
                node, above = node[name], (*above, name)
        raise


def decode_value(self: Configuration, value: Any) -> Any:
    """MMF's reading of a value on the command line; YAML's bare words mean what they do in YAML.

    MMF took them for strings, so that `standardize_text=false` was as good as true.
    """
    if isinstance(value, str) and value.lower() in YAML_WORDS:
        return YAML_WORDS[value.lower()]
    return _decode_value(self, value)


def print_input_errors() -> None:
    """Let an uncaught InputError print its message alone; the exit code stays 1."""
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if issubclass(kind, InputError):
            print(f"error: {error}", file=sys.stderr)
        else:
            previous(kind, error, trace)

    sys.excepthook = hook


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


Configuration._build_model_config = build_model_config
Configuration._build_dataset_config = build_dataset_config
Configuration._merge_with_dotlist = merge_with_dotlist
Configuration._decode_value = decode_value
print_input_errors()
join_process_group()
