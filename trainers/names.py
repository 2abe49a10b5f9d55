"""The grammar of trainer names: `<Network>Trainer[_option...]`, and the classes made from them."""

from __future__ import annotations

from functools import cache
from typing import Any

from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerDA5 import nnUNetTrainerDA5
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoDA import nnUNetTrainerNoDA
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (
    nnUNetTrainer_onlyMirror01,
    nnUNetTrainerNoMirroring,
)

from nnunet_archs.networks import SegmentationNetwork

from .base import PaperTrainer
from .caggnet import CAggNetTrainer
from .crosslink import (
    CrosslinkNetTrainer,
    Double2SingleNetTrainer,
    HorCrosslinkTrainer,
    SquareCrosslinkTrainer,
    VerCrosslinkTrainer,
)
from .focusnet import FocusNetPlusPlusTrainer
from .improved_skip import ClassicalUNetTrainer, ImprovedSkipConcatUNetTrainer, ImprovedSkipUNetTrainer
from .nnunet import PlainConvUNetTrainer, ResidualEncoderUNetTrainer
from .options import Option
from .unet_sharp import (
    CanonicalUNet3PlusTrainer,
    CanonicalVNet3PlusTrainer,
    UNet3PlusTrainer,
    UNetPlusPlusTrainer,
    UNetSharpTrainer,
    UNetTrainer,
    VNet3PlusTrainer,
    VNetPlusPlusTrainer,
    VNetSharpTrainer,
    VNetTrainer,
)

TRAINERS: dict[str, type[PaperTrainer]] = {
    trainer.__name__: trainer
    for trainer in (
        UNetSharpTrainer,
        VNetSharpTrainer,
        UNetPlusPlusTrainer,
        VNetPlusPlusTrainer,
        UNet3PlusTrainer,
        VNet3PlusTrainer,
        CanonicalUNet3PlusTrainer,
        CanonicalVNet3PlusTrainer,
        UNetTrainer,
        VNetTrainer,
        CAggNetTrainer,
        FocusNetPlusPlusTrainer,
        ImprovedSkipUNetTrainer,
        ImprovedSkipConcatUNetTrainer,
        ClassicalUNetTrainer,
        CrosslinkNetTrainer,
        VerCrosslinkTrainer,
        HorCrosslinkTrainer,
        SquareCrosslinkTrainer,
        Double2SingleNetTrainer,
        PlainConvUNetTrainer,
        ResidualEncoderUNetTrainer,
    )
}


# those that every trainer knows; a paper's own stand with its trainers
OPTIONS = (
    Option(spelling="<N>epochs", meaning="train for N epochs", group="epochs", attribute="epochs"),
    Option(
        spelling="<N>iterations",
        meaning="N iterations an epoch, and N / 5 to validate it",
        group="iterations",
        attribute="iterations",
    ),
    Option(
        spelling="DiceCE",
        meaning="nnU-Net's loss, supervision and optimiser: the architecture alone",
        group="loss",
        attribute="recipe",
        value="nnunet",
    ),
    Option(
        spelling="CE",
        meaning="cross-entropy in place of the paper's loss",
        group="loss",
        attribute="recipe",
        value="CE",
    ),
    Option(
        spelling="DS",
        meaning="nnU-Net's deep supervision in place of the paper's",
        group="supervision",
        attribute="supervision",
        value="nnunet",
    ),
    Option(
        spelling="noDS",
        meaning="no deep supervision",
        group="supervision",
        attribute="supervision",
        value="none",
    ),
    Option(
        spelling="checkpoint",
        meaning="keep a third to six sevenths less for backward and compute it again there: slower by a tenth or more",
        group="memory",
        attribute="checkpoint",
        value=True,
        of_own_networks=True,
    ),
    Option(
        spelling="NoMirroring",
        meaning="no mirroring",
        group="augmentation",
        variant=nnUNetTrainerNoMirroring,
    ),
    Option(
        spelling="onlyMirror01",
        meaning="mirroring along axes 0 and 1 only (2D: 0)",
        group="augmentation",
        variant=nnUNetTrainer_onlyMirror01,
    ),
    Option(spelling="NoDA", meaning="no data augmentation", group="augmentation", variant=nnUNetTrainerNoDA),
    Option(spelling="DA5", meaning="nnU-Net's stronger augmentation", group="augmentation", variant=nnUNetTrainerDA5),
)


# groups of options that leave network and loss as they are
SAME_STEP = ("epochs", "iterations", "augmentation")


class UnknownTrainer(LookupError):
    """The name's first word is none of the trainers here."""


@cache
def trainer_class(name: str) -> type[PaperTrainer]:
    """The trainer of a name: the same class whenever it is asked for.

    Raises:
        UnknownTrainer: if the name does not begin with one of `TRAINERS`.
        ValueError: for an option that is unknown, given twice, at odds with another, or set by the trainer itself.
    """
    base_name, *words = name.split("_")
    if base_name not in TRAINERS:
        raise UnknownTrainer(f"{base_name}: the trainers are {', '.join(TRAINERS)}")
    base = TRAINERS[base_name]
    attributes: dict[str, Any] = {}
    variants: list[type] = []
    settled: dict[str, str] = {}
    of_paper_loss: list[str] = []
    for word in words:
        option = find_option(word, name, base)
        if option.group in settled:
            raise ValueError(
                f"{name}: _{settled[option.group]} and _{word} both settle the {option.group}; keep one of them"
            )
        settled[option.group] = word
        if option.of_paper_loss:
            of_paper_loss.append(word)
        if option.variant is not None:
            variants.append(option.variant)
            continue
        attributes[option.attribute] = option.value_in(word)
        if getattr(base, option.attribute) == attributes[option.attribute]:
            raise ValueError(f"{name}: {base_name} is that without _{word} already; leave it out")
    if not words:
        return base
    if of_paper_loss and attributes.get("recipe", base.recipe) != "paper":
        raise ValueError(f"{name}: _{of_paper_loss[0]} is of the paper's loss, which another replaces; drop one")
    # under the discovery module's name, which makes it again from its name, the class can be pickled
    attributes["__module__"] = "nnunet_archs.discovery.nnunet_archs_trainers"
    attributes["__doc__"] = f"{base_name} with {', '.join(f'_{word}' for word in words)}."
    return type(name, (base, *variants), attributes)


def plans_name(trainer: type[PaperTrainer]) -> str:
    """Name of the plans made for a trainer: its network, and the options that change what a step takes."""
    base, *words = trainer.__name__.split("_")
    told = [word for word in words if find_option(word, trainer.__name__, TRAINERS[base]).group not in SAME_STEP]
    return "_".join([base.removesuffix("Trainer"), *told]) + "Plans"


def find_option(word: str, name: str, trainer: type[PaperTrainer]) -> Option:
    """The option that a word of a trainer's name spells.

    Raises:
        ValueError: if the trainer knows none.
    """
    own_network = issubclass(trainer.network_class, SegmentationNetwork)
    options = [option for option in (*OPTIONS, *trainer.options) if own_network or not option.of_own_networks]
    for option in options:
        if option.match(word):
            return option
    known = ", ".join(f"_{option.spelling}" for option in options)
    raise ValueError(f"{name}: {trainer.__name__} has no option _{word}; the options are {known}")
