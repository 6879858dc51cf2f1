"""Config files in YAML, checked as text before anything reads them: which line says what.

It stands alone (no import of this package), because `demjson.py` loads it by its path before MMF,
and with it the plug-in, is there. So it reports what is wrong as text instead of raising.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

# More than any config needs; what aliases repeat counts again, so that they cannot explode.
MAX_BYTES, MAX_NODES, MAX_DEPTH, MAX_FILES = 1_000_000, 10_000, 50, 100
STANDARD_TAGS = {
    f"tag:yaml.org,2002:{kind}"
    for kind in ("null", "bool", "int", "float", "str", "seq", "map", "timestamp")
}
# Keys at the top that MMF looks into before anybody can check them.
GROUPS = (
    *("training", "evaluation", "checkpoint", "env", "distributed", "optimizer", "scheduler"),
    *("model_config", "dataset_config"),
)

# Path of a key -> the file and line that give it.
Lines = dict[tuple[str, ...], str]


class _ProblemFound(Exception):
    """``str`` of it is what is wrong, with file and line."""


def read_lines(file: str, mmf_root: Path, user_dir: str | None = None) -> tuple[Lines, str | None]:
    """Where the keys of a config file are given, its includes among them.

    Args:
        file: as given with ``config=``; looked for where MMF looks for it.
        mmf_root: the folder of MMF's package.
        user_dir: MMF's environment variable MMF_USER_DIR.

    Returns:
        The lines, and what is wrong with a file (then MMF must not read it), or None.
    """
    lines: Lines = {}
    places = [Path(), *([Path(user_dir)] if user_dir else []), mmf_root.parent, mmf_root]
    try:
        path = next((p / file for p in places if _exists(p / file)), Path(file))
        _read(path, mmf_root, (), lines, [])
    except _ProblemFound as problem:
        return {}, str(problem)
    return lines, None


def value_problem(option: str) -> str | None:
    """What is wrong with ``key=value`` of the command line as YAML, which MMF reads it as."""
    key, _, value = option.partition("=")
    try:
        _check(_compose(value, "value"), (), {}, "value")
    except _ProblemFound as problem:
        reason = str(problem).removeprefix("value, line 1: ").removesuffix(".")
        return (
            f"Command line, {key}={value[:60]}: cannot be read ({reason}). Text with special "
            f"""characters goes into two pairs of quotes: {key}="'...'"."""
        )
    return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False


def list_over_group(below: Any, above: Any, key: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """The first key where ``below`` has a group of keys and ``above`` a list, if any.

    Which omegaconf cannot merge; it replaces all else.
    """
    if isinstance(below, dict) and isinstance(above, list):
        return key
    if isinstance(below, dict) and isinstance(above, dict):
        for name, value in above.items():
            if found := list_over_group(below.get(name), value, (*key, str(name))):
                return found
    return None


def _read(
    path: Path, mmf_root: Path, above: tuple[Path, ...], lines: Lines, seen: list[Path]
) -> dict[str, Any]:
    """Add the lines of ``path`` to ``lines``, over those of the files it includes.

    Returns its groups of keys, and where lists are in them, merged likewise.
    """
    node = _compose(_text(path), str(path))
    seen.append(path)
    if len(seen) > MAX_FILES:
        raise _ProblemFound(f"{path}: more than {MAX_FILES} files are included, one by another.")
    own: Lines = {}
    if node is not None:
        if not isinstance(node, yaml.MappingNode):
            raise _ProblemFound(f"{path}, line 1: a config is keys with values (`key: value`).")
        _check(node, (), own, str(path))
        for key, value in node.value:
            if key.value in GROUPS and not isinstance(value, yaml.MappingNode):
                raise _ProblemFound(f"{own[key.value,]}: {key.value} is a group of keys.")
    merged: dict[str, Any] = {}
    for place, include in _includes(node, path):
        target = mmf_root / include
        if not _exists(target):
            target = path.parent / include
        if not _exists(target):
            raise _ProblemFound(f"{place}: includes {include}, but there is no such file.")
        chain = (*above, path)
        if target.resolve() in [file.resolve() for file in chain]:
            names = " -> ".join(map(str, (*chain, target)))
            raise _ProblemFound(f"{place}: the files include each other in a circle: {names}.")
        included = _read(target, mmf_root, chain, lines, seen)
        merged = _merged(merged, included, lines)
    lines |= own
    return _merged(merged, _tree(node) or {}, lines)


def _tree(node: yaml.Node | None) -> Any:
    """Groups of keys as dicts, lists as empty ones, and any other value as None."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: _tree(value) for key, value in node.value}
    return [] if isinstance(node, yaml.SequenceNode) else None


def _merged(below: Any, above: Any, lines: Lines) -> Any:
    if key := list_over_group(below, above):
        raise _ProblemFound(f"{lines[key]}: {'.'.join(key)} is a group of keys, not a list.")
    return _over(below, above)


def _over(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {name: _over(below.get(name), value) for name, value in above.items()}


def _text(path: Path) -> str:
    try:
        if path.is_dir():
            raise _ProblemFound(f"{path}: is a folder; give a YAML file.")
        if path.exists() and not path.is_file():  # a pipe or a device may never end
            raise _ProblemFound(f"{path}: is no regular file; give a YAML file.")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _ProblemFound(
            f"{path}: no such config file. `hm_concat config` lists ours."
        ) from None
    except (OSError, ValueError) as error:
        raise _ProblemFound(f"{path}: cannot be read ({error}).") from None
    if len(content) > MAX_BYTES:
        raise _ProblemFound(f"{path}: larger than {MAX_BYTES:,} bytes, so not a config.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _ProblemFound(f"{path}, line {line}: not text in UTF-8.") from None


def _compose(text: str, file: str) -> yaml.Node | None:
    """The nodes of a YAML text."""
    try:
        return yaml.SafeLoader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise _ProblemFound(f"{file}, line {line}: holds a character that YAML forbids.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _ProblemFound(
            f"{file}, line {mark.line + 1 if mark else 1}: not YAML ({error.problem})."
        ) from None
    except RecursionError:
        raise _ProblemFound(f"{file}, line 1: nested too deeply.") from None


def _check(
    node: yaml.Node | None,
    path: tuple[str, ...],
    lines: Lines,
    file: str,
    count: Iterator[int] | None = None,
) -> None:
    """Fill ``lines`` from ``node``; raises _ProblemFound for what MMF cannot read."""
    if node is None:
        return
    place = f"{file}, line {node.start_mark.line + 1}"
    count = iter(range(MAX_NODES)) if count is None else count
    if len(path) > MAX_DEPTH or next(count, None) is None:
        raise _ProblemFound(
            f"{place}: too much: more than {MAX_NODES:,} values, what aliases (*) repeat "
            f"included, or nested deeper than {MAX_DEPTH}."
        )
    if node.tag not in STANDARD_TAGS:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise _ProblemFound(f"{place}: the tag {tag} is not allowed; write the plain value.")
    if isinstance(node, yaml.ScalarNode):
        try:
            yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError, KeyError, IndexError, AttributeError):
            kind = node.tag.rpartition(":")[2]
            raise _ProblemFound(f"{place}: {node.value[:60]!r} is no {kind}.") from None
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _check(item, (*path, str(index)), lines, file, count)
    else:
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                name = key.value if isinstance(key, yaml.ScalarNode) else "..."
                raise _ProblemFound(
                    f"{file}, line {line}: the key {name} is not text. Put it in quotes."
                )
            if key.value in first:
                raise _ProblemFound(
                    f"{file}, line {line}: the key {key.value} is there twice, first in line "
                    f"{first[key.value]}. Leave one of them out."
                )
            first[key.value] = line
            lines[(*path, key.value)] = f"{file}, line {line}"
            _check(value, (*path, key.value), lines, file, count)


def _includes(node: yaml.MappingNode | None, path: Path) -> Iterator[tuple[str, str]]:
    """Of each file that ``node`` includes: the place that says so, and its name."""
    for key, value in node.value if node is not None else ():
        if key.value != "includes":
            continue
        place = f"{path}, line {key.start_mark.line + 1}"
        if not isinstance(value, yaml.SequenceNode):
            raise _ProblemFound(f"{place}: includes is a list of files: `includes: [other.yaml]`.")
        for item in value.value:
            if item.tag != "tag:yaml.org,2002:str" or not item.value:
                raise _ProblemFound(f"{place}: includes is a list of the names of files.")
            yield f"{path}, line {item.start_mark.line + 1}", item.value
