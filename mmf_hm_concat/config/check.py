"""The check of a whole config against its description, with all problems in one message."""

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import msgspec

from mmf_hm_concat.config.description import KEYS, OF_PROCESSORS, OUR_DATASET, OUR_MODEL, Key
from mmf_hm_concat.config.kinds import choices, in_words, takes_text
from mmf_hm_concat.errors import InputError

# Groups in which MMF's models and data sets have keys of their own.
OPEN = ("", "model_config", "dataset_config")
# Keys that MMF reads but does not list in its defaults.
UNLISTED = ("losses", "zoo_requirements", "model")
# Params of the processors that MMF's data sets have by default: in the YAML, ours are merged over
# them.
OF_OTHERS = ("max_length", "vocab", "preprocessor", "transforms")
REQUIRED = ("model", "datasets", "run_type", "optimizer.type", "optimizer.params.lr")

# Key -> what is wrong with it, and what to do, as a sentence.
Problems = dict[str, str]


def check_values(config: Mapping[str, Any], keys: Mapping[str, Key]) -> Problems:
    """Check each value of ``config`` by ``keys``, and make it what its type says, in place.

    Args:
        config: plain, as read from YAML; numbers that YAML reads as text become numbers.
        keys: by their whole dotted names.
    """
    problems: Problems = {}
    groups = {above for name in keys for above in _above(name)}
    for name in sorted(groups | keys.keys(), key=lambda name: name.count(".")):
        group, _, last = name.rpartition(".")
        parent = lookup(config, group)
        if not isinstance(parent, dict) or any(above in problems for above in _above(name)):
            continue
        if last not in parent:
            if name in REQUIRED and name in keys:
                problems[name] = f"is missing: give {in_words(keys[name].kind)}."
            continue
        key = keys.get(name)
        if key is not None:
            parent[last], problem = _converted(parent[last], key)
            if problem:
                problems[name] = problem
                continue
        elif not isinstance(parent[last], dict):
            problems[name] = f"is a group of keys ({', '.join(_children(name, keys))})."
            continue
        value = parent[last]
        is_open = key.is_open or name not in groups if key else name in OPEN or _is_foreign(name)
        if isinstance(value, dict) and not is_open:
            known = _children(name, keys)
            for wrong in value:
                if wrong not in (*known, *UNLISTED):
                    problems[f"{name}.{wrong}"] = unknown("key", wrong, known, name)
    return problems


def _converted(value: Any, key: Key) -> tuple[Any, str | None]:
    """``value`` as its key's type has it, and what is wrong with it."""
    if value is False and "off" in choices(key.kind):
        value = "off"  # which YAML takes for false
    if type(value) is int and takes_text(key.kind):
        value = str(value)  # a folder called 2024
    try:
        # Text may stand for a number or a truth value: YAML 1.1 reads 1e-3 as text.
        converted = msgspec.convert(value, key.kind, strict=False)
        return (value if isinstance(value, dict) else converted), None
    except Exception:  # msgspec's, or of a value that no YAML can hold
        near = ""
        if isinstance(value, str) and (words := _nearest(value, choices(key.kind))):
            near = f" Did you mean {words[0]}?"
        return value, f"give {in_words(key.kind)}.{near}"


def _is_foreign(name: str) -> bool:
    """Whether a group is of a data set of MMF, though params of ours are in it."""
    ours = name.startswith(OUR_DATASET) or name.endswith(".params")
    return name.startswith("dataset_config.") and not ours


def _above(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _children(name: str, keys: Collection[str]) -> list[str]:
    start = f"{name}."
    below = [key.removeprefix(start).split(".")[0] for key in keys if key.startswith(start)]
    return list(dict.fromkeys(below))


def lookup(config: Any, name: str) -> Any:
    """The value of a dotted key, or None."""
    for part in name.split(".") if name else ():
        config = config.get(part) if isinstance(config, Mapping) else None
    return config


def over(below: Any, above: Any) -> Any:
    """``above`` merged over ``below``, key by key."""
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    return {**below, **{key: over(below.get(key), value) for key, value in above.items()}}


def keys_of_run(config: Mapping[str, Any]) -> dict[str, Key]:
    """The described keys that the run of ``config`` reads."""
    datasets = datasets_of(config)
    has_our_model, has_our_data = config.get("model") == "concat_vl", "hm_competition" in datasets
    keys = {
        name: key
        for name, key in KEYS.items()
        if (has_our_model or not name.startswith(OUR_MODEL))
        and (has_our_data or not name.startswith(OUR_DATASET))
        and "_processor.params." not in name  # these depend on the processor
    }
    for dataset in datasets:
        place = f"dataset_config.{dataset}.processors"
        processors = lookup(config, place)
        for name, each in processors.items() if isinstance(processors, Mapping) else ():
            kind = each.get("type") if isinstance(each, Mapping) else None
            if not isinstance(kind, str) or kind not in OF_PROCESSORS:
                continue
            params = f"{place}.{name}.params"
            if params in keys:  # now its keys are known
                keys[params] = Key(keys[params].kind, keys[params].help)
            others = dict.fromkeys(OF_OTHERS, Key(Any, "Of another processor."))
            keys |= {f"{params}.{k}": key for k, key in (others | OF_PROCESSORS[kind]).items()}
    return keys


def datasets_of(config: Mapping[str, Any]) -> list[str]:
    """The names of the data sets of a run."""
    names = config.get("datasets")
    return names.split(",") if isinstance(names, str) else []


def encoder_and_name(branch: Mapping[str, Any], encoders: Collection[str]) -> tuple[str, str]:
    """Which of ``encoders`` a branch has, and the name within it.

    ``name: timm/resnet18`` is (timm, resnet18), whatever ``encoder`` says.
    """
    name = str(branch["name"])
    prefix, _, rest = name.partition("/")
    return (prefix, rest) if prefix in encoders else (branch["encoder"], name)


def unknown(kind: str, name: Any, known: Collection[str], above: str = "") -> str:
    """A sentence: there is no such ``kind``, and which of ``known`` might be meant."""
    prefix, name = f"{above}." if above else "", str(name)
    near = _nearest(name, known)
    names = ", ".join(f"{prefix}{each}" for each in near or sorted(known))
    hint = f"Did you mean {names}?" if near else f"Known: {names or 'none'}."
    return f"there is no {kind} {shown(prefix + name)}. {hint}"


def _nearest(word: str, known: Collection[Any]) -> list[str]:
    return difflib.get_close_matches(word, [str(each) for each in known], n=3)


def raise_problems(
    problems: Problems,
    config: Mapping[str, Any],
    where: Callable[[str], str | None],
    source: str = "",
) -> None:
    """Raise one InputError with all ``problems``, if there are any.

    Args:
        config: holds the values as they were given.
        where: says of a key where its value was given, or None.
        source: what the config is part of, to begin the message with.
    """
    lines = list(_lines(problems, config, where))
    source = f"{source}: " if source else ""
    if len(lines) == 1:
        raise InputError(source + lines[0])
    if lines:
        raise InputError("\n  ".join([f"{source}The config has {len(lines)} problems:", *lines]))


def _lines(
    problems: Problems, config: Mapping[str, Any], where: Callable[[str], str | None]
) -> Iterator[str]:
    for key, problem in problems.items():
        place = where(key)
        group, _, last = key.rpartition(".")
        parent = lookup(config, group)
        has_value = isinstance(parent, Mapping) and last in parent
        value = f" = {shown(parent[last])}" if has_value else ""
        yield f"{key}{value}{f' ({place})' if place else ''}: {problem}"


def shown(value: Any) -> str:
    """A value, short."""
    words = "null" if value is None else str(value).lower() if type(value) is bool else repr(value)
    return words if len(words) <= 80 else f"{words[:77]}..."
