"""Write docs/api/, a page for each module with its public names and their docstrings.

    python tools/api_pages.py [FOLDER]

pdoc alone would leave out whatever `mmf_hm_concat.__all__` does not name, and import the plug-in
before MMF. Commands are left out: `hm_concat COMMAND --help` describes them.
"""

import pkgutil
import sys
from pathlib import Path

import mmf.utils.env
import pdoc

import mmf_hm_concat
from mmf_hm_concat.inference.classifier import MemeClassifier

FOLDER = Path(__file__).parent.parent / "docs" / "api"


def main(folder: Path) -> None:
    mmf.utils.env.setup_imports()  # MMF's own classes are registered first, as in its commands
    mmf_hm_concat.MemeClassifier = MemeClassifier  # imported when asked for: pdoc does not ask
    found = pkgutil.walk_packages(mmf_hm_concat.__path__, "mmf_hm_concat.")
    commands = ("mmf_hm_concat.cli", "mmf_hm_concat.__main__")
    names = [each.name for each in found if not (each.ispkg or each.name.startswith(commands))]
    pdoc.render.configure(
        docformat="google", footer_text=f"mmf_hm_concat {mmf_hm_concat.__version__}"
    )
    pdoc.pdoc("mmf_hm_concat", *names, output_directory=folder)
    print(f"The pages begin with {folder / 'index.html'}.")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
