"""The grammar of trainer names: `<Network>Trainer[_option...]`, and the classes made from them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerDA5 import nnUNetTrainerDA5
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoDA import nnUNetTrainerNoDA
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (
    nnUNetTrainer_onlyMirror01,
    nnUNetTrainerNoMirroring,
)

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


@dataclass(frozen=True, kw_only=True)
class Option:
    """A word of a trainer's name: `<N>` in its spelling is a number, `<P>` one below 100, `group` what it settles.

    It sets an attribute of the trainer (to the number, or to `value`), or adds one of nnU-Net's own variants. An
    option that is not `general` is known to the trainers that list its spelling; one `of_paper_loss` changes that.
    """

    spelling: str
    meaning: str
    group: str
    attribute: str = ""
    value: Any = None
    variant: type[nnUNetTrainer] | None = None
    general: bool = True
    of_paper_loss: bool = False

    def match(self, word: str) -> re.Match[str] | None:
        """Match of this option with a word of a name, the number as its group."""
        pattern = self.spelling.replace("<N>", "([1-9][0-9]*)").replace("<P>", "([1-9][0-9]?)")
        return re.fullmatch(pattern, word)

    def value_in(self, word: str) -> Any:
        """What the attribute is set to: the number in the word, or `value`."""
        match = self.match(word)
        return int(match.group(1)) if match and match.groups() else self.value

    def known_to(self, trainer: type[PaperTrainer]) -> bool:
        """Whether a trainer's name may have it."""
        return self.general or self.spelling in trainer.options


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
        spelling="alpha<P>",
        meaning="the focal loss weighs foreground with P per cent, background with the rest",
        group="alpha",
        attribute="alpha",
        general=False,
        of_paper_loss=True,
    ),
    Option(
        spelling="gamma<N>",
        meaning="the focal loss' exponent is N",
        group="gamma",
        attribute="gamma",
        general=False,
        of_paper_loss=True,
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
        spelling="CGM",
        meaning="classification-guided modules: what a patch is judged not to show is not predicted there",
        group="guidance",
        attribute="cgm",
        value=True,
        general=False,
    ),
    Option(
        spelling="L<N>",
        meaning="the network pruned to level N, trained on its own",
        group="level",
        attribute="level",
        general=False,
    ),
    Option(
        spelling="pruned<N>",
        meaning="level N cut out of a trained network by nnunet-archs prune",
        group="level",
        attribute="pruned_to",
        general=False,
    ),
    Option(
        spelling="L",
        meaning="the features of the authors' code, 48 to 512, with the paper's block",
        group="preset",
        attribute="preset",
        value="L",
        general=False,
    ),
    Option(
        spelling="S",
        meaning="the light network, features 16 to 256, with the block of the authors' code",
        group="preset",
        attribute="preset",
        value="S",
        general=False,
    ),
    Option(
        spelling="released",
        meaning="as in the authors' code: FocusNet++'s features, 48 to 512, and block; Crosslink-Net's second branch",
        group="preset",
        attribute="preset",
        value="released",
        general=False,
    ),
    Option(
        spelling="pairwise",
        meaning="the attention's loss is the mean correlation of maps and mask, in place of Eq. 1",
        group="attention's loss",
        attribute="attention_mode",
        value="pairwise",
        general=False,
        of_paper_loss=True,
    ),
    Option(
        spelling="3branches",
        meaning="a third branch along the first axis (3D), and the pairwise attention's loss",
        group="attention's loss",
        attribute="branches",
        value=3,
        general=False,
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


def find_option(word: str, name: str, trainer: type[PaperTrainer]) -> Option:
    """The option that a word of a trainer's name spells.

    Raises:
        ValueError: if the trainer knows none.
    """
    options = [option for option in OPTIONS if option.known_to(trainer)]
    for option in options:
        if option.match(word):
            return option
    known = ", ".join(f"_{option.spelling}" for option in options)
    raise ValueError(f"{name}: {trainer.__name__} has no option _{word}; the options are {known}")
