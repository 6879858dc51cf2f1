"""Give `mmf_run` wrong options and YAML files, one at a time, and read what it says.

Run: .venv/bin/python tests/integration/wrong_options.py [words of an option ...]
                                                          (all take about ten minutes)

Each must end with exit code 1 and one message that begins with "error:", without a traceback and
without a checkpoint. How many took longer than LIMIT seconds is told beside it, with what the
import of MMF alone takes: run it on a machine with nothing else to do. The values are those of
tests/config/test_wrong_values.py, which are checked there in one process, and what only a command
can meet: files, the environment, aliases without end.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "config")]

from generated_values import LEAVES, wrong_values  # noqa: E402
from test_wrong_values import WRONG  # noqa: E402

from mmf_hm_concat.config.description import KEYS  # noqa: E402
from mmf_hm_concat.data.synthetic import make_sample  # noqa: E402

BIN = Path(sys.executable).parent
LIMIT = 5
HEAD = f"includes: [{ROOT}/projects/concat/sample.yaml]\n"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
YAML = {
    "syntax": "training: {max_epochs: 1\n",
    "tab": "training:\n\tmax_epochs: 1\n",
    "key twice": "training: {max_epochs: 1}\ntraining: {max_epochs: 2}\n",
    "key no text": "training: {1: 2}\n",
    "tag": "training: !!python/object/apply:os.system ['echo ran']\n",
    "unknown tag": "training: !mine {max_epochs: 1}\n",
    "alias bomb": BOMB,
    "alias of itself": "training: &a {max_epochs: *a}\n",
    "list": "- training\n",
    "text": "training\n",
    "binary": "\0\1\2",
    "include missing": "includes: [nosuch.yaml]\n",
    "include itself": "includes: [THIS]\n",
    "include no list": "includes: nosuch.yaml\n",
    "group as value": "training: 5\n",
    "null group": "training: null\n",
    "unknown key": "training: {max_epoch: 1}\n",
    "unknown group": "trainig: {max_epochs: 1}\n",
    "interpolation of nothing": "training: {seed: '${nosuch.key}'}\n",
    "interpolation in a circle": "training: {seed: '${training.seed}'}\n",
    "many": "training: {max_epochs: 0, batch_size: -1, precision: half, seed: x}\n",
}
# Which a second config= on the same command line would replace.
FINE = {"config=projects"}


def cases(folder: Path) -> dict[str, list[str]]:
    """Name of a case -> options."""
    found = {option: [option] for option in WRONG if option not in FINE}
    for name, text in YAML.items():
        path = folder / f"{name.replace(' ', '_')}.yaml"
        path.write_text((HEAD if "includes" not in text else "") + text.replace("THIS", str(path)))
        found[f"YAML: {name}"] = [f"config={path}"]
    (folder / "latin.yaml").write_bytes("training: {experiment_name: é}\n".encode("latin-1"))
    (folder / "folder").mkdir()
    (folder / "file").touch()
    found |= {
        "YAML: latin-1": [f"config={folder / 'latin.yaml'}"],
        "YAML: a folder": [f"config={folder / 'folder'}"],
        "YAML: a device": ["config=/dev/null/x"],
        "save_dir is a file": [f"env.save_dir={folder / 'file'}"],
        "user_dir": ["env.user_dir=nosuch"],
        "override": ["--config_override", "{"],
    }
    for name in LEAVES[::4]:
        value = wrong_values(KEYS[name].kind)[-1]
        found[f"generated: {name}={value}"] = [f"{name}={value}"]
    return found


def problem(options: list[str], data: Path, run: Path) -> tuple[str | None, float]:
    """What is wrong with how `mmf_run` ends, if anything, and the seconds it took."""
    base = ["config=projects/concat/sample.yaml"]
    base += [f"dataset_config.hm_competition.data_dir={data}", f"env.save_dir={run}"]
    flags = [each for each in options if each.startswith("-")]
    plain = [each for each in options if not flags]
    if not any(each.startswith("training.max_") for each in plain):
        base.append("training.max_updates=1")  # one that is taken ends soon
    began = time.monotonic()
    command = [BIN / "mmf_run", *(options if flags else []), *(["--opts"] if flags else [])]
    try:
        done = subprocess.run(
            [*command, *base, *plain],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=60,
        )
    except subprocess.TimeoutExpired:
        return "it hangs", 60
    seconds = time.monotonic() - began
    if "Traceback" in done.stderr:
        return f"a traceback: {done.stderr.strip().splitlines()[-1]}", seconds
    if done.returncode != 1:
        return f"exit code {done.returncode}", seconds
    if "error: " not in done.stderr:
        return f"no message: {done.stderr[-200:]!r}", seconds
    if list(run.glob("*.ckpt")):
        return "it has trained", seconds
    return None, seconds


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_sample(folder / "sample", memes=96)
        wrong, all_seconds, wanted = 0, [], sys.argv[1:]
        chosen = {
            name: options
            for name, options in cases(folder).items()
            if not wanted or any(word in name for word in wanted)
        }
        for number, (name, options) in enumerate(chosen.items()):
            found, seconds = problem(options, folder / "sample", folder / f"run{number}")
            all_seconds.append(seconds)
            if found:
                wrong += 1
                print(f"{name}: {found}", flush=True)
        began = time.monotonic()
        imports = "from mmf.utils.env import setup_imports; setup_imports()"
        subprocess.run([sys.executable, "-c", imports], cwd=ROOT, check=True)
        print(
            f"{len(chosen)} cases, {wrong} not as they must be. Seconds: median "
            f"{statistics.median(all_seconds):.1f}, most {max(all_seconds):.1f}, "
            f"{sum(each > LIMIT for each in all_seconds)} over {LIMIT}; MMF's import alone "
            f"{time.monotonic() - began:.1f}"
        )
        sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
