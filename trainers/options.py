"""An option of a trainer's name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

PLACEHOLDERS = {
    "<N>": "([1-9][0-9]*)",
    "<P>": "([1-9][0-9]?)",
    "<ABC>": "([0-9]{3})",
    "<model>": "([a-z0-9]+(?:-[a-z0-9]+)*)",
}


@dataclass(frozen=True, kw_only=True)
class Option:
    """A word of a trainer's name, and `group`, what it settles.

    `<N>` in its spelling is a number, `<P>` one below 100, `<ABC>` three digits, `<model>` a name with `-` for `_`.

    It sets an attribute of the trainer (to the number or the name, or to `value`), adds a variant of nnU-Net's trainer,
    or both. One `of_paper_loss` changes nothing but that, one `of_own_networks` nnU-Net's networks do not know. Options
    that are in `against`, or whose groups are, contradict it.
    """

    spelling: str
    meaning: str
    group: str
    attribute: str = ""
    value: Any = None
    variant: type[nnUNetTrainer] | None = None
    of_paper_loss: bool = False
    of_own_networks: bool = False
    against: tuple[str, ...] = ()

    def match(self, word: str) -> re.Match[str] | None:
        """Match of this option with a word of a trainer's name, its number or model as the group; also `_1epoch`."""
        pattern = self.spelling
        for placeholder, numbers in PLACEHOLDERS.items():
            pattern = pattern.replace(placeholder, numbers)
        plural = f"{word}s" if re.fullmatch("1[a-z]+", word) else word
        return re.fullmatch(pattern, word) or re.fullmatch(pattern, plural)

    def contradicts(self, other: Option) -> bool:
        """Whether it cannot stand beside another option."""
        return not {other.group, other.spelling}.isdisjoint(self.against)

    def value_in(self, word: str) -> Any:
        """What the attribute is set to: the number or the name in the word, or `value`."""
        match = self.match(word)
        if not match or not match.groups():
            return self.value
        found = match.group(1)
        return found.replace("-", "_") if "<model>" in self.spelling else int(found)
