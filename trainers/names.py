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
from .nnunet import PlainConvUNetTrainer, ResidualEncoderUNetTrainer
from .unet_sharp import (
    UNetPlusPlusTrainer,
    UNetSharpTrainer,
    UNetTrainer,
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
        UNetTrainer,
        VNetTrainer,
        PlainConvUNetTrainer,
        ResidualEncoderUNetTrainer,
    )
}


@dataclass(frozen=True)
class Option:
    """A word of a trainer's name: `<N>` in its spelling is a number, `group` names what it settles.

    It sets an attribute of the trainer (to the number, or to `value`), or adds one of nnU-Net's own variants.
    """

    spelling: str
    meaning: str
    group: str
    attribute: str = ""
    value: Any = None
    variant: type[nnUNetTrainer] | None = None

    def match(self, word: str) -> re.Match[str] | None:
        """Match of this option with a word of a name, the number as its group."""
        return re.fullmatch(self.spelling.replace("<N>", "([1-9][0-9]*)"), word)

    def value_in(self, word: str) -> Any:
        """What the attribute is set to: the number in the word, or `value`."""
        match = self.match(word)
        return int(match.group(1)) if match and match.groups() else self.value


OPTIONS = (
    Option("<N>epochs", "train for N epochs", "epochs", "epochs"),
    Option("<N>iterations", "N iterations an epoch, and N / 5 to validate it", "iterations", "iterations"),
    Option(
        "DiceCE",
        "nnU-Net's loss, supervision and optimiser: the architecture alone",
        "loss",
        "recipe",
        "nnunet",
    ),
    Option("noDS", "no deep supervision", "supervision", "without_supervision", True),
    Option("NoMirroring", "no mirroring", "augmentation", variant=nnUNetTrainerNoMirroring),
    Option(
        "onlyMirror01",
        "mirroring along axes 0 and 1 only (2D: 0)",
        "augmentation",
        variant=nnUNetTrainer_onlyMirror01,
    ),
    Option("NoDA", "no data augmentation", "augmentation", variant=nnUNetTrainerNoDA),
    Option("DA5", "nnU-Net's stronger augmentation", "augmentation", variant=nnUNetTrainerDA5),
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
    for word in words:
        option = find_option(word, name)
        if option.group in settled:
            raise ValueError(
                f"{name}: _{settled[option.group]} and _{word} both settle the {option.group}; keep one of them"
            )
        settled[option.group] = word
        if option.variant is not None:
            variants.append(option.variant)
            continue
        attributes[option.attribute] = option.value_in(word)
        if getattr(base, option.attribute) == attributes[option.attribute]:
            raise ValueError(f"{name}: {base_name} is that without _{word} already; leave it out")
    if not words:
        return base
    # under the discovery module's name, which makes it again from its name, the class can be pickled
    attributes["__module__"] = "nnunet_archs.discovery.nnunet_archs_trainers"
    attributes["__doc__"] = f"{base_name} with {', '.join(f'_{word}' for word in words)}."
    return type(name, (base, *variants), attributes)


def find_option(word: str, name: str) -> Option:
    """The option that a word of a trainer's name spells.

    Raises:
        ValueError: if there is none.
    """
    for option in OPTIONS:
        if option.match(word):
            return option
    known = ", ".join(f"_{option.spelling}" for option in OPTIONS)
    raise ValueError(f"{name}: there is no option _{word}; the options are {known}")
