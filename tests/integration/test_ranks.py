"""The same submission and the same validation metrics from one, two and three processes."""

import pytest

pytestmark = pytest.mark.slow

# Validates, then predicts: one start of MMF for both.
PROGRAM = """
import sys
from mmf_cli.run import run
run([*sys.argv[1:], "run_type=val"])
run([*sys.argv[1:], "evaluation.predict=true"], predict=True)
"""


# The sample's 16 test memes are two batches: the third process has none.
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_change_nothing(trained, command, tmp_path, ranks):
    folder, training, _ = trained
    script, path = tmp_path / "program.py", tmp_path / "predicted.csv"
    script.write_text(PROGRAM)
    run = tmp_path / "run"
    run.mkdir()
    for name in ("best.ckpt", "text_model.bin"):
        (run / name).hardlink_to(folder / name)
    done = command(
        f"torchrun --standalone --nproc-per-node {ranks} {script}",
        run,
        f"evaluation.predict_file={path}",
    )
    assert path.read_bytes() == (folder / "submission.csv").read_bytes()
    assert f"{ranks} processes" in done.stdout
    assert validation(done.stdout) == validation(training)


def validation(output):
    """The last metrics of the validation split that a run has printed."""
    lines = [line for line in output.splitlines() if "Best checkpoint on val" in line]
    return lines[-1].split("Best checkpoint")[1]
