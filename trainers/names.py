"""The grammar of trainer names: `<Network>Trainer[_option...]`, and the classes made from them."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache
from typing import Any

from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerDA5 import nnUNetTrainerDA5
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoDA import nnUNetTrainerNoDA
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (
    nnUNetTrainer_onlyMirror01,
    nnUNetTrainerNoMirroring,
)

from .base import PaperTrainer
from .options import Option

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
SAME_STEP = ("epochs", "iterations", "augmentation", "pretraining")


@cache
def with_options(base: type[PaperTrainer], words: tuple[str, ...]) -> type[PaperTrainer]:
    """A trainer with the options that the words after its name spell: the same class whenever it is asked for.

    Raises:
        ValueError: for an option that is unknown, given twice, at odds with another, or set by the trainer itself.
    """
    name = "_".join([base.__name__, *words])
    attributes: dict[str, Any] = {}
    variants: list[type] = []
    settled: dict[str, str] = {}
    of_paper_loss: list[str] = []
    for word in words:
        option = find_option(word, base)
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
            raise ValueError(f"{name}: {base.__name__} is that without _{word} already; leave it out")
    if of_paper_loss and attributes.get("recipe", base.recipe) != "paper":
        raise ValueError(f"{name}: _{of_paper_loss[0]} is of the paper's loss, which another replaces; drop one")
    attributes["name_words"] = words
    # under the discovery module's name, which makes it again from its name, the class can be pickled
    attributes["__module__"] = "nnunet_archs.discovery.nnunet_archs_trainers"
    attributes["__doc__"] = f"{base.__name__} with {', '.join(f'_{word}' for word in words)}."
    return type(name, (base, *variants), attributes)


def plans_name(trainer: type[PaperTrainer]) -> str:
    """Name of the plans made for a trainer: its network, and the options that change what a step takes."""
    base = trainer.__name__.removesuffix("_".join(["", *trainer.name_words])).removesuffix("Trainer")
    told = [word for word in trainer.name_words if find_option(word, trainer).group not in SAME_STEP]
    return "_".join([base, *told]) + "Plans"


def options_of(trainer: type[PaperTrainer]) -> list[Option]:
    """The options that a trainer's name can have."""
    recomputes = getattr(trainer.network_class, "recomputes", False)
    return [option for option in (*OPTIONS, *trainer.options) if recomputes or not option.of_own_networks]


def find_option(word: str, trainer: type[PaperTrainer]) -> Option:
    """The option that a word of a trainer's name spells.

    Raises:
        ValueError: if the trainer knows none.
    """
    spellings = {option.spelling: option for option in options_of(trainer)}
    for option in spellings.values():
        if option.match(word):
            return option
    lower = {spelling.lower(): spelling for spelling in spellings}
    nearest = get_close_matches(re.sub(r"[0-9]+", "<n>", word.lower()), lower, n=1)
    guess = f"did you mean _{lower[nearest[0]]}? The" if nearest else "the"
    known = ", ".join(f"_{spelling}" for spelling in spellings)
    raise ValueError(f"{trainer.__name__} has no option _{word}; {guess} options are {known}")
