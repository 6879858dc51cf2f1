"""Write docs/config.md, the page of all keys of the config, from their description."""

from pathlib import Path

from mmf_hm_concat.config.reference import markdown
from mmf_hm_concat.utils.files import atomic_write

if __name__ == "__main__":
    with atomic_write(Path(__file__).parent.parent / "docs" / "config.md") as page:
        page.write_text(markdown(), "utf-8")
