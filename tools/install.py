"""Make `.venv`: MMF 1.0.0rc10, unmodified, on today's Python, with this plug-in beside it.

    python3 tools/install.py [--extras encoders,...] [--into PYTHON]

Uses nothing but the standard library and the Python package index. MMF's wheel is
downloaded, its digest compared, and its *metadata* rewritten: the requirements it was
published with (torch 1.5.0, demjson 2.2.4, ...) can no longer be installed, so it gets those of
requirements/mmf.txt, and a tag that any Python accepts. Its code stays byte for byte.
omegaconf 2.0.6 is repacked likewise: one of its requirements is malformed, so pip from 24.1 on
takes it for unavailable, and an older one downloads it. Does nothing when `.venv` is already what
the requirements ask for. Extras (those of setup.py) are added to it, and stay.

With --into, all this goes into the environment of another Python instead, as a copy: pip alone
cannot do it, for the reasons above.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN_NAME = "Scripts" if os.name == "nt" else "bin"
VENV_BIN = VENV / BIN_NAME
STAMP = VENV / "installed"
# The last one that downloads omegaconf 2.0.6; used for that alone, from a temporary folder.
DOWNLOADER = "pip==24.0"
SUPPORTED = ((3, 10), (3, 13))

# name, version, the published wheel's SHA-256, its tags on the index
MMF = (
    "mmf",
    "1.0.0rc10",
    "e416250ea75fd21dc89921f76c280f87c7a60fd1e25287f778bb8f470f83e7a0",
    ("3.8", "cp", "manylinux1_x86_64"),
)
OMEGACONF = (
    "omegaconf",
    "2.0.6",
    "9e349fd76819b95b47aa628edea1ff83fed5b25108608abdd6c7fdca188e302a",
    ("3.8", "py", "any"),
)


def main() -> None:
    asked = parse_arguments()
    if asked.into:
        install_into(asked.into, asked.extras)
        return
    check_python(sys.version_info[:2])
    extras = {"dev", *asked.extras}
    wanted = fingerprint()
    there, *installed = STAMP.read_text().split() if STAMP.exists() else [""]
    if there == wanted:
        if missing := extras - {*installed}:
            install(VENV_BIN / "python", VENV_BIN, missing, "--editable")
            STAMP.write_text(" ".join([wanted, *sorted({*installed} | missing)]))
        return
    extras |= {*installed}
    if VENV.exists():
        shutil.rmtree(VENV)
    print(f"Setting up {VENV.name} with Python {sys.version.split()[0]} (once; some minutes)")
    make_tools(VENV)
    install_with_mmf(VENV_BIN / "python", VENV_BIN, extras, "--editable")
    STAMP.write_text(" ".join([wanted, *sorted(extras)]))


def install_into(python: str, extras: Sequence[str]) -> None:
    """Install into somebody's own environment; what it takes is made beside it and removed."""
    ask = "import sys; print(sys.executable); print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(
            f"--into {python}: no Python that runs ({error}). Give its path, as venv/bin/python."
        )
    executable, version = done.stdout.split("\n")[:2]
    check_python(tuple(map(int, version.split())))
    print(f"Installing into the environment of {executable} (some minutes)")
    with tempfile.TemporaryDirectory() as folder:
        make_tools(Path(folder))
        install_with_mmf(Path(executable), Path(folder, BIN_NAME), extras)
    print(f"Done: {Path(executable).parent / 'mmf_run'} and hm_concat beside it.")


def make_tools(folder: Path) -> None:
    """A virtual environment with what installs and repacks wheels."""
    try:
        import venv

        venv.create(folder, with_pip=True)
    except (ImportError, subprocess.CalledProcessError):
        sys.exit("Python's venv module is incomplete here; on Debian: apt install python3-venv")
    run(folder / BIN_NAME / "pip", "install", "--quiet", "uv", "wheel")


def install_with_mmf(python: Path, tools: Path, extras: Iterable[str], *options: str) -> None:
    """Install MMF and omegaconf, repacked, and this plug-in. ``tools``: as `make_tools` made."""
    with tempfile.TemporaryDirectory() as folder:
        run(tools / "pip", "install", "--quiet", "--target", f"{folder}/downloader", DOWNLOADER)
        wheels = [
            repack(MMF, tools, Path(folder), requirement_lines("mmf.txt")),
            repack(OMEGACONF, tools, Path(folder), ["PyYAML>=5.1", "typing-extensions"]),
        ]
        install(python, tools, extras, *map(str, wheels), *options)


def install(python: Path, tools: Path, extras: Iterable[str], *options: str) -> None:
    """Install this plug-in after what ``options`` name, and check that all fits together."""
    # Compiled now: MMF imports 4,000 modules at every start. With PYTHONDONTWRITEBYTECODE, or in a
    # read-only folder, each start would compile them anew. And transformers 2.3.0 gives syntax
    # warnings when it is compiled.
    names = ",".join(sorted(extras))
    what = f"{ROOT}[{names}]" if names else str(ROOT)
    where = ("--quiet", "--python", str(python))
    run(tools / "uv", "pip", "install", *where, "--compile-bytecode", *options, what)
    run(tools / "uv", "pip", "check", *where)


def parse_arguments() -> argparse.Namespace:
    """The command line; an extra that is none of setup.py's ends the set-up."""
    known = [path.stem for path in sorted((ROOT / "requirements").glob("*.txt"))]
    known = [name for name in known if name not in ("mmf", "plugin")]
    parser = argparse.ArgumentParser(description="Make .venv.")
    parser.add_argument("--extras", default="", help=f"with commas: {', '.join(known)}")
    parser.add_argument("--into", metavar="PYTHON", help="another environment, by its Python")
    asked = parser.parse_args()
    asked.extras = asked.extras.replace(",", " ").split()
    if wrong := [name for name in asked.extras if name not in known]:
        sys.exit(f"There are no extras {', '.join(wrong)}; there are {', '.join(known)}.")
    compilers = filter(None, [os.environ.get("CXX"), "c++", "g++", "clang++"])
    if "fast_png" in asked.extras and not any(map(shutil.which, compilers)):
        sys.exit(
            "The extra fast_png is compiled here, and there is no C++ compiler: install one (on "
            "Debian: apt install g++ python3-dev), or leave it out; all works without it."
        )
    return asked


def check_python(version: tuple[int, ...]) -> None:
    low, high = SUPPORTED
    if not low <= version <= high:
        sys.exit(
            f"Python {'.'.join(map(str, version))} is not supported; {'.'.join(map(str, low))} to "
            f"{'.'.join(map(str, high))} are. Name one: make PYTHON=python3.12 demo"
        )


def fingerprint() -> str:
    """What `.venv` depends on: the Python, this script, the requirements, setup.py."""
    digest = hashlib.sha256(f"{sys.version} {VENV}".encode())
    for path in [Path(__file__), ROOT / "setup.py", *sorted((ROOT / "requirements").iterdir())]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def requirement_lines(name: str) -> list[str]:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def repack(package: tuple, tools: Path, folder: Path, requires: list[str]) -> Path:
    """Download the published wheel and give it honest requirements and a `py3-none-any` tag."""
    name, version, digest, (python, implementation, platform) = package
    tags = ["--python-version", python, "--implementation", implementation, "--platform", platform]
    run(tools / "python", str(folder / "downloader" / "pip"), "download", "--quiet", "--no-deps",
        "--only-binary=:all:", *tags, "--dest", str(folder), f"{name}=={version}")  # fmt: skip
    published = next(folder.glob(f"{name}-*.whl"))
    found = hashlib.sha256(published.read_bytes()).hexdigest()
    if found != digest:
        sys.exit(f"{published.name} has SHA-256 {found}, not {digest}: not the published wheel")
    run(tools / "wheel", "unpack", "--dest", str(folder), str(published))
    published.unlink()
    unpacked = folder / f"{name}-{version}"
    metadata = next(unpacked.glob("*.dist-info/METADATA"))
    head, _, description = metadata.read_text("utf-8").partition("\n\n")
    fields = [line for line in head.splitlines() if not line.startswith("Requires-Dist:")]
    fields += [f"Requires-Dist: {line}" for line in requires]
    metadata.write_text("\n".join(fields) + "\n\n" + description, "utf-8")
    wheel_file = metadata.with_name("WHEEL")
    text = re.sub(r"(?m)^Tag:.*\n", "", wheel_file.read_text()).rstrip("\n")
    text = text.replace("Root-Is-Purelib: false", "Root-Is-Purelib: true")
    wheel_file.write_text(text + "\nTag: py3-none-any\n")
    run(tools / "wheel", "pack", "--dest-dir", str(folder), str(unpacked))
    return next(folder.glob(f"{name}-*.whl"))


def run(program: Path, *arguments: str) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [program, *arguments], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{program.name} {' '.join(arguments)}\n{done.stdout}\nThe set-up stopped here.")


if __name__ == "__main__":
    main()
