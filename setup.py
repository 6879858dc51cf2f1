"""Packaging of mmf_hm_concat. Dependencies, each with its reason, are in requirements/."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
# Read, not imported: what the package imports may not be installed yet.
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "mmf_hm_concat" / "__init__.py").read_text(), re.MULTILINE
)[1]

# What the tests need of the extras.
IN_DEV = ("dev", "export", "search", "parquet")


def requirements(name: str) -> list[str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


setup(
    name="mmf_hm_concat",
    version=VERSION,
    description="The Hateful Memes concat-fusion benchmark as a plug-in of MMF",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["mmf_hm_concat", "mmf_hm_concat.*"]),
    package_data={
        "mmf_hm_concat": [
            *("py.typed", "configs/**/*.yaml", "projects/**/*.yaml"),
            "reports/templates/*.html",
        ]
    },
    # MMF imports a module of this name before anything else: see its first lines.
    py_modules=["demjson"],
    install_requires=requirements("plugin"),
    extras_require={
        "dev": [line for name in IN_DEV for line in requirements(name)],
        "encoders": requirements("encoders"),
        "test_encoders": requirements("test_encoders"),
        "export": requirements("export"),
        "fast_png": requirements("fast_png"),
        "parquet": requirements("parquet"),
        "search": requirements("search"),
    },
    entry_points={"console_scripts": ["hm_concat = mmf_hm_concat.cli:main"]},
)
