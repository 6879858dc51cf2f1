"""Commands on a trained model: `predict`, `export`."""

import argparse
from pathlib import Path

from mmf_hm_concat.cli.shared import Commands


def add_predict(commands: Commands) -> None:
    add = commands.add_parser("predict", help="print the probability that one meme is hateful")
    add.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder of a run; of several: the mean of them"
    )
    add.add_argument("image", metavar="IMAGE", help="an image file")
    add.add_argument("text", metavar="TEXT", help="the text on it, in quotes")
    add.set_defaults(run=predict)


def predict(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.inference.classifier import MemeClassifier

    print(MemeClassifier.load(*chosen.runs)(chosen.image, chosen.text))
    return 0


def add_export(commands: Commands) -> None:
    add = commands.add_parser("export", help="write a trained concat_vl as an ONNX file")
    add.add_argument("run_folder", type=Path, metavar="RUN", help="the run's env.save_dir")
    add.add_argument("out", type=Path, metavar="OUT.onnx")
    add.set_defaults(run=export)


def export(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.inference.export import export as export_run

    print(export_run(chosen.run_folder, chosen.out))
    return 0
