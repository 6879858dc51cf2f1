"""Everything of MMF 1.0.0rc10 that this plug-in replaces at run time, and why.

MMF's files stay as published; these are functions wrapped in memory, methods of `Configuration`
unless said otherwise. What a wrapped function did before it still does. Importing this module
changes nothing: `install` does, which is called when MMF loads the plug-in.

===============================  ==================================================================
`_build_model_config`            reads `model=` from the command line only; now the YAML's, too;
                                 adds the keys that only `concat_trainer` knows, in its runs;
                                 and makes a `vision: null` of the YAML, over a group of keys in
                                 a YAML that it includes, replace the model's default, too
`_build_dataset_config`          likewise `dataset=`; then unknown keys of the YAML are reported
`_merge_with_dotlist`            an unknown key ended in a traceback; a value could not hold a `=`;
                                 `vision=null` or `params={'size': 64}`, which name a whole
                                 group of keys, were ignored silently; a seed of letters ended
                                 in NumPy's traceback; and a password must not stay in a config
                                 that gets saved
`_decode_value`                  `key=false` was the string "false", which counts as true;
                                 `{until: layer3}` and `[accuracy]` were strings, too
`sys.excepthook`                 an `InputError` is one message for the user, not a traceback
process group                    under `torchrun`, MMF insists on CUDA and puts all ranks on the
                                 first device: the group is started here, gloo on CPUs
`torch.multiprocessing.spawn`    the processes that MMF starts, one a GPU, ended in a traceback, and
                                 the command ended before they had saved what they did
===============================  ==================================================================
"""

import contextlib
import difflib
import functools
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from mmf.common.registry import registry
from mmf.utils.configuration import Configuration, load_yaml
from omegaconf import DictConfig, OmegaConf

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin.distributed import (
    join_process_group,
    lost_rank,
    print_input_error,
    spawn,
)
from mmf_hm_concat.mmf_plugin.settings import whole_number

# Nodes whose keys a user invents: parameters handed to a class by name.
OPEN_NODES = ("params", "processors", "optimizer", "scheduler", "splits")
# Keys that MMF reads but does not list in its defaults.
UNLISTED = ("losses", "zoo_requirements")

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
    _make_nulls_plain(self._user_config)
    name = opts.model or self._user_config.get("model")
    if name is None:
        raise InputError(
            "No model is named. Add `model: concat_vl` to the YAML given with config=, "
            "or model=concat_vl to the command."
        )
    if registry.get_model_class(name) is None:
        raise InputError(unknown("model", name, registry.mapping["model_name_mapping"]))
    self._model_defaults = _build_model_config(self, OmegaConf.create({"model": name}))
    if _trainer(self) == "concat_trainer":
        ours = load_yaml(str(CONFIGS / "concat_trainer.yaml"))
        self._model_defaults = OmegaConf.merge(ours, self._model_defaults)
    return self._model_defaults


def _trainer(self: Configuration) -> str | None:
    """`training.trainer` of the command line, else of the YAML."""
    given = (self._opts_config.get("training"), self._user_config.get("training"))
    return next((each.trainer for each in given if each and each.get("trainer")), None)


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
    if _trainer(self) == "concat_trainer":
        known = OmegaConf.merge(self._default_config, self._model_defaults, dataset_defaults)
        check_keys(self._user_config, known, self.config_path)
    return dataset_defaults


def check_keys(given: Mapping, known: Mapping, file: str | None) -> None:
    """Raise InputError for keys of ``given`` that ``known`` lacks, all of them in one message."""
    # As they are written: what a ${...} stands for may be in neither of the two.
    given, known = (OmegaConf.to_container(OmegaConf.create(each)) for each in (given, known))
    problems = list(_unknown_keys(given, known, ()))
    if problems:
        raise InputError(f"{file}: " + "\n".join(problems))


def _unknown_keys(given: Mapping, known: Mapping, above: tuple[str, ...]) -> Iterator[str]:
    for key, value in given.items():
        path = (*above, key)
        if key in UNLISTED:
            continue
        if key not in known:
            # Settings of a model or data set that this run does not use are nobody's mistake.
            if above not in (("model_config",), ("dataset_config",)):
                yield unknown("key", key, known, above)
        elif key in OPEN_NODES:
            continue
        elif isinstance(value, Mapping) and isinstance(known[key], Mapping):
            yield from _unknown_keys(value, known[key], path)


def unknown(kind: str, name: str, known: Any, above: tuple[str, ...] = ()) -> str:
    """A sentence: there is no such ``kind``, and which of ``known`` might be meant."""
    near = difflib.get_close_matches(name, list(known), n=3)
    known = near or sorted(known)
    names = ", ".join(".".join((*above, each)) for each in known)
    hint = f"Did you mean {names}?" if near else f"Known: {names}."
    return f"there is no {kind} {'.'.join((*above, name))!r}. {hint}"


def merge_with_dotlist(self: Configuration, config: DictConfig, opts: list[str]) -> DictConfig:
    """MMF's command-line overrides; an unknown key is named with its nearest relatives."""
    config = _merge_options(self, config, opts)
    if (seed := config.get("training", {}).get("seed")) is not None:
        whole_number("training.seed (-1: another each time)", seed, -1)
    _hide_password(config)
    return config


def _hide_password(config: DictConfig) -> None:
    """Move the archive's password to the environment, where `find_layout` looks for it.

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
    pairs = list(zip(opts[0::2], opts[1::2], strict=False))
    rest: list[str] = []
    for key, value in pairs:
        *above, name = key.split(".")
        parent = functools.reduce(_child, above, config)
        node = _child(parent, name)
        if not isinstance(node, Mapping):
            rest += [key, value]
        elif (decoded := decode_value(self, value)) is None:
            parent[name] = None
        elif isinstance(decoded, Mapping):
            parent[name] = OmegaConf.merge(node, decoded)
        else:
            raise InputError(
                f"Command line, {key}={value}: {key} is a group of keys ({', '.join(node)}). "
                f"Give one of them, as {key}.{next(iter(node), 'key')}=..., or {key}=null."
            )
    try:
        return _merge_with_dotlist(self, config, rest + opts[2 * len(pairs) :])
    except AttributeError:
        for key in opts[0::2]:
            node = config
            path: tuple[str, ...] = ()
            for part in ("datasets" if key == "dataset" else key).split("."):
                name = part.split("[")[0]
                if not isinstance(node, Mapping) or name not in node:
                    if not isinstance(node, Mapping):
                        what = f"{'.'.join(path)} is {'null' if node is None else node}"
                        raise InputError(
                            f"Command line, {key}: {what}, so it has no keys."
                        ) from None
                    problem = unknown("key", name, node, path)
                    raise InputError(f"Command line, {key}: {problem}") from None
                node, path = node[name], (*path, name)
        raise


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
        with contextlib.suppress(yaml.YAMLError):
            return yaml.safe_load(decoded)
    return decoded


def print_input_errors() -> None:
    """Let an uncaught InputError print its message alone; the exit code stays 1."""
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        told = error if isinstance(error, InputError) else lost_rank(error)
        if told is not None:
            print_input_error(told)
        else:
            previous(kind, error, trace)

    sys.excepthook = hook


def install() -> None:
    """Put the patches listed above in place; once more changes nothing.

    Raises:
        InputError: under `torchrun`, what `join_process_group` refuses.
    """
    if Configuration._decode_value is not decode_value:
        Configuration._build_model_config = build_model_config
        Configuration._build_dataset_config = build_dataset_config
        Configuration._merge_with_dotlist = merge_with_dotlist
        Configuration._decode_value = decode_value
        torch.multiprocessing.spawn = spawn  # type: ignore[assignment]
        print_input_errors()
    join_process_group()
