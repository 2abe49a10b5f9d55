"""How each paper trains: what `_recipe` in a trainer's name sets, and the text of docs/recipes.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from nnunet_archs.fidelity.papers import (
    CAGGNET,
    CROSSLINK,
    FOCUSNET,
    IMPROVED_SKIP,
    UNET_SHARP,
    Paper,
    Reading,
)
from nnunet_archs.losses import (
    AdaptiveLogHybridLoss,
    CrossEntropyLoss,
    CrosslinkLoss,
    HybridLoss,
    SegmentationLoss,
)
from nnunet_archs.tables import markdown_table

from .augmentation import Augmentation, enlarged, no_augmentation, turned_and_coloured, zoomed_and_rotated
from .optimisation import CONSTANT, Optimisation, cosine, steps

Selection = Literal["last", "loss", "IoU"]
WORDS: dict[Selection, str] = {
    "last": "the last epoch's weights",
    "loss": "the weights of the lowest validation loss",
    "IoU": "the weights of the best validation IoU",
}


NONE: tuple[str, Augmentation] = ("none", no_augmentation)


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe:
    """A paper's training, equal to itself alone.

    `loss` is that of the networks that it compares its own with; its own have their own trainers'. `patience` is how
    many epochs without gain end the training. `patch_size` and `batch_size` are of a published plan, by the number of
    axes. `augmentations` are by what follows `_recipe` in a trainer's name.
    """

    paper: Paper
    optimisation: Optimisation
    epochs: int
    patience: int | None = None
    selection: Selection
    loss: type[SegmentationLoss]
    patch_size: Mapping[int, int]
    batch_size: Mapping[int, int]
    augmentations: Mapping[str, tuple[str, Augmentation]] = field(default_factory=lambda: {"": NONE})
    readings: tuple[Reading, ...]


CAGGNET_RECIPE = Recipe(
    paper=CAGGNET,
    optimisation=Optimisation(optimiser="Adam", rate=1e-3, schedule=CONSTANT),
    epochs=1000,
    patience=32,
    selection="loss",
    loss=CrossEntropyLoss,
    patch_size={2: 256},
    batch_size={2: 5},
    readings=(
        Reading(
            point="Optimiser",
            stated="Adam with a rate of 1e-3; no schedule is given.",
            released="Adam with torch's defaults.",
            built="Adam with a constant rate of 1e-3 and no weight decay.",
        ),
        Reading(
            point="Length and selection",
            stated="Training stops after 32 epochs without gain, which took about 100.",
            released="It stops after 32 epochs without a lower validation loss, or after 1000; the best weights are "
            "kept.",
            built="The same.",
        ),
        Reading(
            point="Patch and batch",
            stated="256 x 256 and 5 for CELL, 512 x 512 and 2 for GLAND.",
            released="The same for CELL; a batch of 3 with cross-entropy for GLAND.",
            built="A published plan has those of CELL. For GLAND, set both in a configuration that inherits from it.",
        ),
        Reading(
            point="Loss of the networks compared",
            stated="Tables I and II have binary cross-entropy.",
            released="Binary cross-entropy, or the focal loss with alpha 0.5.",
            built="Cross-entropy; CAggNet itself has its focal loss, with `_CE` cross-entropy too.",
        ),
        Reading(
            point="Augmentation",
            stated="None is mentioned.",
            released="None.",
            built="None.",
        ),
        Reading(
            point="Intensities",
            stated="Nothing is said.",
            released="[0, 1], less 0.5 and divided by 0.5.",
            built="[0, 1], by the channels' names; only what is padded with 0 tells the difference.",
        ),
    ),
)

FOCUSNET_RECIPE = Recipe(
    paper=FOCUSNET,
    optimisation=Optimisation(optimiser="Adam", rate=1e-4, schedule=steps(15, 25, 40)),
    epochs=50,
    selection="loss",
    loss=AdaptiveLogHybridLoss,
    patch_size={2: 256},
    batch_size={2: 8},
    readings=(
        Reading(
            point="Optimiser",
            stated='The schedule is "optimised" for each network; nothing else is said.',
            released="Adam; 1e-4 up to epoch 15, 1e-5 up to 25, 1e-6 up to 40, then 1e-7, which overrides its initial "
            "1e-3.",
            built="Adam with the released schedule, in epochs whatever `_<N>epochs` says.",
        ),
        Reading(
            point="Length and selection",
            stated="At most 50 epochs, no early stopping, and the best validation loss.",
            released="50 epochs.",
            built="50 epochs, and the best validation loss.",
        ),
        Reading(
            point="Patch and batch",
            stated="256 x 256 and 8.",
            released="A batch of 4.",
            built="256 x 256 and 8.",
        ),
        Reading(
            point="Loss of the networks compared",
            stated="ALL-HL.",
            released="The part of ALL-HL that is there.",
            built="ALL-HL.",
        ),
        Reading(point="Augmentation", stated="None.", released="None.", built="None."),
        Reading(
            point="Intensities",
            stated="[0, 1].",
            released="The data's z-scores, then each image from 0 to 255.",
            built="[0, 1], by the channels' names.",
        ),
    ),
)

IMPROVED_SKIP_RECIPE = Recipe(
    paper=IMPROVED_SKIP,
    optimisation=Optimisation(optimiser="Adam", rate=1e-3, schedule=CONSTANT),
    epochs=32,
    selection="IoU",
    loss=CrossEntropyLoss,
    patch_size={2: 512},
    batch_size={2: 1},
    readings=(
        Reading(
            point="Optimiser",
            stated="None is named.",
            released="No code was found. A public collection of networks with the same data, labels and parameters has "
            "Adam with torch's defaults, from which this is inferred.",
            built="Adam with a constant rate of 1e-3.",
        ),
        Reading(
            point="Length and selection",
            stated="32 epochs.",
            released="That collection keeps the best mean IoU of the set that it reports.",
            built="32 epochs, and the best mean IoU of the validation set.",
        ),
        Reading(
            point="Patch and batch",
            stated="512 x 512 images, and a batch of 1.",
            built="512 x 512 and 1.",
        ),
        Reading(
            point="Loss of the networks compared",
            stated="Cross-entropy.",
            released="That collection prints the sum over an epoch's images, which fits the size of the paper's "
            "losses.",
            built="Cross-entropy.",
        ),
        Reading(point="Augmentation", stated="None is mentioned.", built="None."),
    ),
)

CROSSLINK_RECIPE = Recipe(
    paper=CROSSLINK,
    optimisation=Optimisation(optimiser="Adam", rate=5e-6, weight_decay=0.005, schedule=CONSTANT),
    epochs=15,
    selection="last",
    loss=CrosslinkLoss,
    patch_size={2: 512},
    batch_size={2: 2},
    augmentations={
        "": ("zoom by 0.5 to 1.75, rotation by up to 30 degrees, horizontal flip (COVID-19)", zoomed_and_rotated),
        "Cardiac": ("enlarged twice, and rotated by 8 and -8 degrees (cardiac MR)", enlarged),
        "KiTS": ("none (KiTS)", no_augmentation),
    },
    readings=(
        Reading(
            point="Optimiser",
            stated="Adam with a rate of 5e-6 and a weight decay of 0.005; another sentence says SGD.",
            released="Adam, with that rate and decay.",
            built="Adam, with that rate and decay.",
        ),
        Reading(
            point="Length and selection",
            stated="Nothing is said.",
            released="15 epochs; the weights after epoch 12 are tested.",
            built="15 epochs, and the last weights.",
        ),
        Reading(
            point="Patch and batch",
            stated="Images of 512 x 512 (COVID-19, KiTS) and 256 x 256 (cardiac), and a batch of 2.",
            released="The middle 512 x 512.",
            built="A published plan has 512 x 512 and 2. For cardiac images, set 256 in a configuration that inherits "
            "from it.",
        ),
        Reading(
            point="Loss of the networks compared",
            stated="Cross-entropy alone in Table III, and nothing in the others.",
            built="Cross-entropy for the networks of Table III, else 0.4 cross-entropy + 0.1 Dice: Eq. 2 without the "
            "attention that they have not.",
        ),
        Reading(
            point="Augmentation of COVID-19 images",
            stated="Zoom by 0.5 to 1.75, padded with zeros or cropped at random; rotation by up to 30 degrees; "
            "horizontal flip.",
            released="The same, made beforehand.",
            built="The same, made anew in every epoch, and cropped in the middle.",
        ),
        Reading(
            point="Augmentation of cardiac images",
            stated="They are enlarged twice, cropped to 256 x 256, and rotated by 8 and -8 degrees.",
            built="`_recipeCardiac`: in every epoch an image is one of these three, or as it is.",
        ),
        Reading(
            point="Augmentation of KiTS",
            stated="None.",
            built="`_recipeKiTS`: none.",
        ),
        Reading(
            point="Folds",
            stated="Three, at random.",
            built="nnU-Net's five, or those of your `splits_final.json`.",
        ),
        Reading(
            point="Intensities",
            stated="Images are JPG.",
            released="[0, 1], divided by 255.",
            built="[0, 1], by the channels' names.",
        ),
    ),
)

UNET_SHARP_RECIPE = Recipe(
    paper=UNET_SHARP,
    optimisation=Optimisation(optimiser="Adam", rate=1e-3, weight_decay=1e-4, schedule=cosine(1e-5)),
    epochs=100,
    selection="IoU",
    loss=HybridLoss,
    patch_size={2: 96, 3: 64},
    batch_size={2: 128, 3: 2},
    augmentations={
        "": ("quarter turns, flips, and one of HSV, brightness and contrast", turned_and_coloured),
    },
    readings=(
        Reading(
            point="Optimiser",
            stated="Adam with a rate of 1e-3 along a cosine, and a weight decay of 1e-4.",
            released="Losses and networks alone. Its README names pytorch-nested-unet, where the cosine ends at 1e-5.",
            built="Adam, that rate and decay, and the cosine to 1e-5 over all epochs.",
        ),
        Reading(
            point="Length and selection",
            stated="100 epochs.",
            released="pytorch-nested-unet keeps the best validation IoU.",
            built="100 epochs, and the best validation IoU.",
        ),
        Reading(
            point="Patch and batch",
            stated="A batch of 128 on two GPUs; no size is given, in 2D or in 3D.",
            released="pytorch-nested-unet has 96 x 96 and a batch of 16.",
            built="96 x 96 and 128. In 3D nothing is known: 64 x 64 x 64 and 2, which is our choice.",
        ),
        Reading(
            point="Loss of the networks compared",
            stated="The hybrid loss.",
            released="The hybrid loss.",
            built="The hybrid loss.",
        ),
        Reading(
            point="Augmentation",
            stated="RandomRotate90, Flip, and one of HSV, brightness and contrast; no numbers.",
            released="pytorch-nested-unet has the defaults of albumentations: a probability of 0.5, hue, saturation "
            "and value by up to 20, 30 and 20, brightness and contrast by up to 0.2.",
            built="These; along each axis half of the images are flipped. Hue needs three channels: images of other "
            "numbers are left as they are where it is drawn.",
        ),
        Reading(
            point="Intensities",
            stated='"Normalization".',
            released="pytorch-nested-unet has ImageNet's statistics, and then divides by 255 again.",
            built="[0, 1], by the channels' names.",
        ),
        Reading(
            point="Mask R-CNN",
            stated="The training is that of all models; no loss, size or anchor of Mask R-CNN is given.",
            built="The same, with torchvision's losses in place of the hybrid loss. The validation IoU is the mean of "
            "that of cores and that of borders.",
        ),
    ),
)

RECIPES = (CAGGNET_RECIPE, FOCUSNET_RECIPE, IMPROVED_SKIP_RECIPE, CROSSLINK_RECIPE, UNET_SHARP_RECIPE)

HEAD = """# Train as a paper did

A bare trainer is the paper's network and loss in nnU-Net's training. With `_recipe` in its name, the training is the
paper's, too: optimiser, rate and schedule, weight decay, epochs, early stopping, choice of the weights, sampling,
augmentation, and prediction without mirroring. Written by `nnunet-archs list --recipes > docs/recipes.md`.

```bash
nnunet-archs plan -d 4 -tr UNetSharpTrainer_recipe --published         # the paper's topology, patch and batch
nnUNetv2_train 4 2d 0 -tr UNetSharpTrainer_recipe -p UNetSharp_publishedPlans
```

Networks that a paper compares its own with have that paper's recipe and loss. A recipe works with any plans;
[published plans](plans.md#the-papers-own-topology) have the paper's topology, patch and batch."""

RULES = """## In all recipes

- **An epoch** shows every case once, in a new order. A case larger than the patch counts as often as patches are
  needed to cover it, in 2D once for every slice. The last batch may be smaller.
- **Validation** in every epoch covers every validation case with patches. Losses and IoU are means over its batches,
  weighted by their size. IoU is of the foreground at 0.5; a class that is neither there nor predicted counts as 1.
- **The weights that are kept** are in `checkpoint_best.pth` and become `checkpoint_final.pth`, with which nnU-Net
  validates the fold and predicts. The other checkpoints have them too, for `--c`.
- **`--c`** resumes exactly: order, crops, augmentation and dropout depend on the run's seed and the epoch, and seed,
  patience and best weights are in the checkpoint. On a GPU, the changing order of sums leaves rounding differences.
- **With several GPUs**, each gets its share of every batch.
- **Images** should be in [0, 1] where the paper's are: name the channels `rgb_to_0_1` or `rescale_to_0_1` in
  `dataset.json`. A training on images that are normalised otherwise says so in its log.
- **These remain nnU-Net's**: mixed precision on a GPU, gradients clipped to a norm of 12, He's initialisation, five
  folds unless `splits_final.json` says otherwise, and the final validation.

`_<N>epochs`, `_CE`, `_noDS` and the options of the network combine with `_recipe`. `_<N>iterations`, `_DiceCE`, `_DS`
and options of augmentation, optimiser and schedule contradict it, and are refused.

For the optimiser or schedule alone, with nnU-Net's augmentation, sampling and 1000 epochs: `_adam` is Adam with the
rate and weight decay of the trainer's recipe (1e-3 and none without a recipe), `_cosine` half a cosine to 0,
`_constant` a constant rate. They combine."""


def page() -> str:
    """The page, in Markdown."""
    return "\n\n".join([HEAD, "## What `_recipe` sets", summary(), RULES, *map(section, RECIPES)])


def summary() -> str:
    """The recipes' values, a row a recipe."""
    header = ("", "optimiser", "rate", "weight decay", "epochs", "kept", "patch, batch", "augmentation")
    return markdown_table(header, [row(recipe) for recipe in RECIPES])


def row(recipe: Recipe) -> tuple[str, ...]:
    """A recipe's values."""
    how = recipe.optimisation
    patience = f"at most {recipe.epochs}, and {recipe.patience} without gain" if recipe.patience else f"{recipe.epochs}"
    sizes = (
        f"{' x '.join([str(recipe.patch_size[axes])] * axes)}, {recipe.batch_size[axes]}" for axes in recipe.patch_size
    )
    augmentation = (
        f"`_recipe{name}`: {words}" if len(recipe.augmentations) > 1 else words
        for name, (words, _) in recipe.augmentations.items()
    )
    return (
        recipe.paper.name,
        how.optimiser,
        f"{how.rate:g}, {how.schedule.words}",
        f"{how.weight_decay:g}",
        patience,
        WORDS[recipe.selection],
        "; ".join(sizes),
        "; ".join(augmentation),
    )


def section(recipe: Recipe) -> str:
    """What a paper prints, its code does, and is done here."""
    readings = [(r.point, r.stated, r.released, r.built) for r in recipe.readings]
    return "\n\n".join(
        [f"## {recipe.paper.name}", markdown_table(("", "printed", "released code", "`_recipe`"), readings)]
    )
