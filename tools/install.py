"""Make `.venv`: MMF 1.0.0rc10, unmodified, on today's Python, with this plug-in beside it.

    python3 tools/install.py [--extras encoders,...]

Uses nothing but the standard library and the Python package index. MMF's wheel is
downloaded, its digest compared, and its *metadata* rewritten: the requirements it was
published with (torch 1.5.0, demjson 2.2.4, ...) can no longer be installed, so it gets those of
requirements/mmf.txt, and a tag that any Python accepts. Its code stays byte for byte.
omegaconf 2.0.6 is repacked likewise: one of its requirements is malformed, so pip from 24.1 on
takes it for unavailable, and an older one downloads it. Does nothing when `.venv` is already what
the requirements ask for. Extras (those of setup.py) are added to it, and stay.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
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
    check_python()
    extras = {"dev", *asked_for()}
    wanted = fingerprint()
    there, *installed = STAMP.read_text().split() if STAMP.exists() else [""]
    if there == wanted:
        if missing := extras - {*installed}:
            uv("install", "--compile-bytecode", "--editable", f"{ROOT}[{','.join(missing)}]")
            uv("check")
            STAMP.write_text(" ".join([wanted, *sorted({*installed} | missing)]))
        return
    extras |= {*installed}
    if VENV.exists():
        shutil.rmtree(VENV)
    print(f"Setting up {VENV.name} with Python {sys.version.split()[0]} (once; some minutes)")
    try:
        import venv

        venv.create(VENV, with_pip=True)
    except (ImportError, subprocess.CalledProcessError):
        sys.exit("Python's venv module is incomplete here; on Debian: apt install python3-venv")
    run("pip", "install", "--quiet", "uv", "wheel")
    with tempfile.TemporaryDirectory() as folder:
        run("pip", "install", "--quiet", "--target", f"{folder}/downloader", DOWNLOADER)
        wheels = [
            repack(MMF, Path(folder), requirement_lines("mmf.txt")),
            repack(OMEGACONF, Path(folder), ["PyYAML>=5.1", "typing-extensions"]),
        ]
        # Compiled now: MMF imports 4,000 modules at every start. With PYTHONDONTWRITEBYTECODE, or
        # in a read-only folder, each start would compile them anew. And transformers 2.3.0 gives
        # syntax warnings when it is compiled.
        uv(
            "install",
            "--compile-bytecode",
            *map(str, wheels),
            "--editable",
            f"{ROOT}[{','.join(sorted(extras))}]",
        )
    uv("check")
    STAMP.write_text(" ".join([wanted, *sorted(extras)]))


def asked_for() -> list[str]:
    """The extras on the command line; a name that is none of them ends the set-up."""
    known = [path.stem for path in sorted((ROOT / "requirements").glob("*.txt"))]
    known = [name for name in known if name not in ("mmf", "plugin")]
    parser = argparse.ArgumentParser(description="Make .venv.")
    parser.add_argument("--extras", default="", help=f"with commas: {', '.join(known)}")
    names = [name for name in parser.parse_args().extras.replace(",", " ").split() if name]
    if wrong := [name for name in names if name not in known]:
        sys.exit(f"There are no extras {', '.join(wrong)}; there are {', '.join(known)}.")
    return names


def check_python() -> None:
    low, high = SUPPORTED
    if not low <= sys.version_info[:2] <= high:
        sys.exit(
            f"Python {sys.version.split()[0]} is not supported; {'.'.join(map(str, low))} to "
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


def repack(package: tuple, folder: Path, requires: list[str]) -> Path:
    """Download the published wheel and give it honest requirements and a `py3-none-any` tag."""
    name, version, digest, (python, implementation, platform) = package
    tags = ["--python-version", python, "--implementation", implementation, "--platform", platform]
    run("python", str(folder / "downloader" / "pip"), "download", "--quiet", "--no-deps",
        "--only-binary=:all:", *tags, "--dest", str(folder), f"{name}=={version}")  # fmt: skip
    published = next(folder.glob(f"{name}-*.whl"))
    found = hashlib.sha256(published.read_bytes()).hexdigest()
    if found != digest:
        sys.exit(f"{published.name} has SHA-256 {found}, not {digest}: not the published wheel")
    run("wheel", "unpack", "--dest", str(folder), str(published))
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
    run("wheel", "pack", "--dest-dir", str(folder), str(unpacked))
    return next(folder.glob(f"{name}-*.whl"))


def uv(command: str, *arguments: str) -> None:
    run("uv", "pip", command, "--quiet", "--python", str(BIN / "python"), *arguments)


def run(program: str, *arguments: str) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [BIN / program, *arguments], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{program} {' '.join(arguments)}\n{done.stdout}\nThe set-up stopped here.")


if __name__ == "__main__":
    main()
