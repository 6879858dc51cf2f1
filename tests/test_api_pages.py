"""`make docs`: a page for each module, with the docstrings of what is public."""

import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_every_public_class_and_function_has_its_docstring_on_a_page(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "api_pages.py", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Warn" not in done.stderr, done.stderr
    assert (tmp_path / "index.html").is_file()
    pages = {str(each.relative_to(tmp_path)): each.read_text() for each in tmp_path.rglob("*.html")}
    for page, name, said in (
        ("mmf_hm_concat.html", "MemeClassifier", "One trained <code>concat_vl</code> or the mean"),
        ("mmf_hm_concat/models/fusions.html", "Concat", ""),
        ("mmf_hm_concat/data/table.html", "read_memes", "Read and check the files that make up"),
        ("mmf_hm_concat/mmf_plugin/trainer.html", "ConcatTrainer", "early_stop.patience"),
    ):
        assert f'id="{name}"' in pages[page] and said in pages[page]
    assert not [page for page in pages if "/cli/" in page]
