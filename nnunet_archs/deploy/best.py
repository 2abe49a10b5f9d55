"""nnU-Net's search for the best of models and their pairs: `python -m nnunet_archs.deploy.best DATASET MODEL...`.

`nnUNetv2_find_best_configuration` asks for every trainer with every plans; here a network may have plans of its own.
"""

import sys

from nnunetv2.evaluation.find_best_configuration import find_best_configuration


def main() -> None:
    """Compare models, named as nnU-Net names their folders, by their five folds' validation."""
    dataset, *models = sys.argv[1:]
    compared = [dict(zip(("trainer", "plans", "configuration"), model.split("__"), strict=True)) for model in models]
    find_best_configuration(dataset, compared)


if __name__ == "__main__":
    main()
