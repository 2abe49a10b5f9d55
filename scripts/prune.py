"""Measure the levels of a trained UNet#, UNet++, V-Net# or V-Net++, and cut one out.

Pruning of UNet# (arXiv:2205.11759, section 2.4, "embedded training"): X[0, N] sees no node beyond i + j = N, so the
network up to there, with the head that deep supervision trained, is a model of its own. It is written beside the whole
one as `<Trainer>_pruned<N>__<Plans>__<configuration>`, for nnUNetv2_predict and all that reads such folders.
"""

import argparse

from .options import add_device, add_model

EXAMPLE = "nnunet-archs prune $nnUNet_results/Dataset004_Hippocampus/UNetSharpTrainer__nnUNetPlans__2d --level 2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    add_model(parser)
    parser.add_argument("--level", type=int, required=True, metavar="N", help="the level to cut out: 1 is the smallest")
    add_device(parser, "levels are measured")
    parser.add_argument("--no-validation", action="store_true", help="only make the folder, without measuring")


def run(args: argparse.Namespace) -> int:
    """Write the pruned model's folder, and print what each level is worth."""
    import torch

    from nnunet_archs.nnunet.device import choose_device
    from nnunet_archs.prune.cut import prune

    device = torch.device(choose_device(args.device))
    target, measured = prune(args.model, args.level, device, validate=not args.no_validation)
    print(*filter(None, [measured]), f"{target}: predict with -tr {target.name.split('__')[0]}", sep="\n\n")
    return 0
