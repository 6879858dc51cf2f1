"""Everything of MMF 1.0.0rc10 that this plug-in replaces at run time, and why.

MMF's files stay as published; these are functions wrapped in memory, methods of `Configuration`
unless said otherwise. What a wrapped function did before it still does. Importing this module
changes nothing: `install` does, which is called when MMF loads the plug-in.

===============================  ==================================================================
`_build_opt_list`                a value that is not YAML, or an option that is not key=value, ended
                                 in a traceback, or was dropped
`_build_user_config`             a YAML that is missing, damaged or no config ended in a traceback,
                                 aliases that explode in a hang (demjson.py checks it for commands)
`_build_model_config`            reads `model=` from the command line only; now the YAML's, too;
                                 adds the keys that only `concat_trainer` knows, in its runs;
                                 and makes a `vision: null` of the YAML, over a group of keys in
                                 a YAML that it includes, replace the model's default, too
`_build_dataset_config`          likewise `dataset=`
`_build_demjson_config`          a `--config_override` that is no JSON ended in a traceback
`_merge_with_dotlist`            an unknown key ended in a traceback; a value could not hold a `=`;
                                 `vision=null` or `params={'size': 64}`, which name a whole
                                 group of keys, were ignored silently; a password must not stay
                                 in a config that gets saved; and the merged config is checked
                                 as a whole (configuration.py): what is ours, and the rest in
                                 runs of `concat_trainer`
`_decode_value`                  `key=false` was the string "false", which counts as true;
                                 `{until: layer3}` and `[accuracy]` were strings, too
`sys.excepthook`                 an `InputError` is one message for the user, not a traceback
process group                    under `torchrun`, MMF insists on CUDA and puts all ranks on the
                                 first device: the group is started here, gloo on CPUs
`torch.multiprocessing.spawn`    the processes that MMF starts, one a GPU, ended in a traceback, and
                                 the command ended before they had saved what they did
===============================  ==================================================================
"""

import sys
import traceback
from typing import Any

import torch
from mmf.utils.configuration import Configuration

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin import command_line, configuration
from mmf_hm_concat.mmf_plugin.distributed import (
    join_process_group,
    lost_rank,
    print_input_error,
    spawn,
    write_to_log,
)


def print_input_errors() -> None:
    """Let an uncaught InputError print its message alone; the exit code stays 1.

    Whatever ends a run is in its train.log, too.
    """
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        told = error if isinstance(error, InputError) else lost_rank(error)
        if told is not None:
            write_to_log(str(told))
            print_input_error(told)
        else:
            write_to_log("".join(traceback.format_exception(kind, error, trace)).rstrip())
            previous(kind, error, trace)

    sys.excepthook = hook


def install() -> None:
    """Put the patches listed above in place; once more changes nothing.

    Raises:
        InputError: under `torchrun`, what `join_process_group` refuses.
    """
    if Configuration._decode_value is not command_line.decode_value:
        Configuration._build_opt_list = configuration.build_opt_list
        Configuration._build_user_config = configuration.build_user_config
        Configuration._build_model_config = configuration.build_model_config
        Configuration._build_dataset_config = configuration.build_dataset_config
        Configuration._build_demjson_config = configuration.build_demjson_config
        Configuration._merge_with_dotlist = configuration.merge_with_dotlist
        Configuration._decode_value = command_line.decode_value
        torch.multiprocessing.spawn = spawn  # type: ignore[assignment]
        print_input_errors()
    join_process_group()
