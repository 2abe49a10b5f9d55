"""Export a trained network with all that inference needs: ONNX, safetensors or torch.

The folder holds model.json, nnU-Net's plans and dataset, and a weights file a fold, compared with its checkpoint.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .options import add_model

EXAMPLE = "nnunet-archs export $nnUNet_results/Dataset004_Hippocampus/CAggNetTrainer__nnUNetPlans__2d --to onnx"
FORMATS = ("onnx", "safetensors", "torch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    add_model(parser)
    parser.add_argument("--to", choices=FORMATS, required=True, help="the weights' format")
    parser.add_argument("-f", "--folds", nargs="+", metavar="FOLD", help="default: all; each has to be finished")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUT", help="default: a folder here, named after model and format"
    )


def run(args: argparse.Namespace) -> int:
    """Write the folder; print for each fold how far it is from its checkpoint."""
    from nnunet_archs.deploy.export import export

    output = args.output or Path(f"{Path(os.path.abspath(args.model)).name}_{args.to}")
    weights = export(args.model, args.to, args.folds, output)["weights"]
    for fold, written in weights["folds"].items():
        difference, logit = written["largest_difference"], written["largest_logit"]
        print(
            f"fold {fold}: {written['file']} differs from the checkpoint by {difference:.1e} at most (logits up to "
            f"{logit:.1f}), on {weights['compared_on']}"
        )
    print(f"{output}: {args.model.name} for {args.to}")
    return 0
