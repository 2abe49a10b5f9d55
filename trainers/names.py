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
from .following import RecipeTraining
from .optimisation import CONSTANT, COSINE
from .options import Option
from .recipes import Recipe

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
        attribute="objective",
        value="nnunet",
    ),
    Option(
        spelling="CE",
        meaning="cross-entropy in place of the paper's loss",
        group="loss",
        attribute="objective",
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
    Option(
        spelling="adam",
        meaning="Adam, with rate and weight decay of the paper's recipe, or 1e-3 and none",
        group="optimiser",
        attribute="optimiser",
        value="Adam",
    ),
    Option(
        spelling="cosine",
        meaning="the rate falls to 0 along half a cosine",
        group="schedule",
        attribute="schedule",
        value=COSINE,
    ),
    Option(spelling="constant", meaning="the rate stays", group="schedule", attribute="schedule", value=CONSTANT),
)


# groups of options that leave network, loss and optimiser as they are
SAME_STEP = ("epochs", "iterations", "augmentation", "schedule", "pretraining")
# groups of options that may leave a step of training as it is, in its memory
MAYBE_SAME_STEP = ("recipe", "optimiser")


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
    found: dict[str, Option] = {}
    of_paper_loss: list[str] = []
    for word in words:
        option = find_option(word, base)
        if option.group in settled:
            raise ValueError(
                f"{name}: _{settled[option.group]} and _{word} both settle the {option.group}; keep one of them"
            )
        settled[option.group] = word
        for other, given in found.items():
            if option.contradicts(given) or given.contradicts(option):
                raise ValueError(f"{name}: _{other} and _{word} contradict each other; drop one of them")
        found[word] = option
        if option.of_paper_loss:
            of_paper_loss.append(word)
        if option.variant is not None:
            variants.append(option.variant)
        if not option.attribute:
            continue
        attributes[option.attribute] = option.value_in(word)
        if getattr(base, option.attribute) == attributes[option.attribute]:
            raise ValueError(f"{name}: {base.__name__} is that without _{word} already; leave it out")
    if "followed" in attributes:
        attributes.setdefault("objective", "paper")  # whatever the bare name's is
    if of_paper_loss and attributes.get("objective", base.objective) != "paper":
        raise ValueError(f"{name}: _{of_paper_loss[0]} is of the paper's loss, which another replaces; drop one")
    attributes["name_words"] = words
    # under the discovery module's name, which makes it again from its name, the class can be pickled
    attributes["__module__"] = "nnunet_archs.discovery.nnunet_archs_trainers"
    attributes["__doc__"] = f"{base.__name__} with {', '.join(f'_{word}' for word in words)}."
    return type(name, (base, *variants), attributes)


def plans_name(trainer: type[PaperTrainer], published: str | None = None) -> str:
    """Name of the plans made for a trainer: its network, and the options that change what a step takes.

    Of published plans (of a row's name, or the first), the options of the network.
    """
    base = trainer.__name__.removesuffix("_".join(["", *trainer.name_words])).removesuffix("Trainer")
    if published is None:
        told = [word for word in trainer.name_words if changes_step(word, trainer)]
    else:
        own = own_words(trainer)
        row = re.sub("[^A-Za-z0-9]", "", published)
        told = [*(word for word in trainer.name_words if word in own), "published", *filter(None, [row])]
    return "_".join([base, *told]) + "Plans"


def own_words(trainer: type[PaperTrainer], words: str | None = None) -> set[str]:
    """Those words of a trainer's name, or of others that it could have, that spell options of its paper alone."""
    found = trainer.name_words if words is None else filter(None, words.split("_"))
    return {word for word in found if find_option(word, trainer) in trainer.options}


def changes_step(word: str, trainer: type[PaperTrainer]) -> bool:
    """Whether a word of a trainer's name changes what a step takes."""
    group = find_option(word, trainer).group
    if group not in MAYBE_SAME_STEP:
        return group not in SAME_STEP
    others = tuple(other for other in trainer.name_words if other != word)
    without = with_options(trainer.__bases__[0], others)

    def step(made: type[PaperTrainer]) -> tuple[object, ...]:
        return made.moments(), made.objective, made.chosen_supervision()

    return step(trainer) != step(without)


def options_of(trainer: type[PaperTrainer]) -> list[Option]:
    """The options that a trainer's name can have."""
    recomputes = getattr(trainer.network_class, "recomputes", False)
    known = (*OPTIONS, *recipe_options(trainer.recipe), *trainer.options)
    return [option for option in known if recomputes or not option.of_own_networks]


@cache
def recipe_options(recipe: Recipe | None) -> tuple[Option, ...]:
    """The options that follow a recipe, one an augmentation."""
    if recipe is None:
        return ()
    return tuple(
        Option(
            spelling=f"recipe{name}",
            meaning=f"the training of {recipe.paper.name}'s paper; augmentation: {words}",
            group="recipe",
            attribute="followed",
            value=name,
            variant=RecipeTraining,
            against=("iterations", "DiceCE", "DS", "augmentation", "optimiser", "schedule"),
        )
        for name, (words, _) in recipe.augmentations.items()
    )


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
