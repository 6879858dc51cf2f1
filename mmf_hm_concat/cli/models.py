"""Commands on a trained model: `predict`, `export`."""

import argparse
import json
from pathlib import Path

from mmf_hm_concat.cli.shared import Commands, add_json, cache_dir, print_lines
from mmf_hm_concat.errors import InputError


def add_predict(commands: Commands) -> None:
    add = commands.add_parser(
        "predict",
        help="the probability that a meme is hateful, or each of many",
        usage="hm_concat predict RUN [RUN ...] IMAGE TEXT [--json]\n"
        "       hm_concat predict RUN [RUN ...] MEMES --out OUT.csv [--threshold T] [--json]",
        description="RUN is the folder of a run; of several, the mean is taken. TEXT is the text "
        "on the image, in quotes. MEMES is a folder of images (the text of a.png in a.txt beside "
        "it), a .jsonl as the dataset's, or a .csv with the columns image,text and perhaps id.",
    )
    add.add_argument("what", nargs="+", metavar="RUN ... IMAGE TEXT, or RUN ... MEMES")
    add.add_argument("--out", type=Path, metavar="OUT.csv", help="id,proba,label of MEMES")
    add.add_argument("--threshold", type=float, default=0.5, help="label is 1 from it on (0.5)")
    add_json(add)
    add.set_defaults(run=predict)


def predict(chosen: argparse.Namespace) -> int:
    return _predict_one(chosen) if chosen.out is None else _predict_many(chosen)


def _predict_one(chosen: argparse.Namespace) -> int:
    *runs, image, text = chosen.what if len(chosen.what) > 2 else ("", "", "")
    if not image or Path(image).is_dir():  # one of several runs, before what was meant as MEMES
        raise InputError(
            "Give RUN IMAGE TEXT, the text in quotes; or RUN MEMES --out OUT.csv, for a folder, "
            "a .jsonl or a .csv of memes."
        )
    from mmf_hm_concat.inference.classifier import MemeClassifier

    proba = MemeClassifier.load(*runs)(image, text)
    found = {"proba": proba, "label": int(proba >= chosen.threshold)}
    print(json.dumps(found) if chosen.json else proba)
    return 0


def _predict_many(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.inference.new_memes import predict_new_memes

    *runs, memes = chosen.what
    if not runs:
        raise InputError("Give RUN MEMES --out OUT.csv: the folder of a run, then the memes.")
    summary = predict_new_memes(
        runs, Path(memes), chosen.out, threshold=chosen.threshold, cache_dir=cache_dir()
    )
    found = {**vars(summary), "path": str(summary.path)}
    print_lines(json.dumps(found, indent=2) if chosen.json else str(summary))
    return 0


def add_export(commands: Commands) -> None:
    add = commands.add_parser("export", help="write a trained concat_vl as an ONNX file")
    add.add_argument("run_folder", type=Path, metavar="RUN", help="the run's env.save_dir")
    add.add_argument("out", type=Path, metavar="OUT.onnx")
    add.set_defaults(run=export)


def export(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.inference.export import export as export_run

    print_lines(export_run(chosen.run_folder, chosen.out))
    return 0
