"""A YAML file whose errors name the line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml

Place: TypeAlias = tuple[str | int, ...]  # keys and positions that lead to a value
T = TypeVar("T")


@dataclass(frozen=True)
class Document:
    """The content of a YAML file, and the line of every value in it."""

    file: Path
    text: str
    content: Any
    lines: dict[Place, int]

    @classmethod
    def read(cls, file: Path) -> Document:
        """Read a file.

        Raises:
            ValueError: if it cannot be read, is not valid YAML, or names a key twice.
        """
        try:
            text = file.read_text(encoding="utf-8")
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            content = yaml.safe_load(text)
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{file} cannot be read ({error}); name a study file") from error
        except yaml.MarkedYAMLError as error:
            at = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
            raise ValueError(f"{file}{at}: not valid YAML: {error.problem}; correct it") from error
        except yaml.YAMLError as error:
            raise ValueError(f"{file}: not valid YAML: {error}; correct it") from error
        lines: dict[Place, int] = {}
        if node is not None:
            for place, line in lines_of(node, ()):
                if place in lines:
                    raise ValueError(f"{file}:{line}: {place[-1]} is here twice; keep one of them")
                lines[place] = line
        return cls(file, text, content, lines)

    def error(self, place: Place, what: str) -> ValueError:
        """An error that names the line of a value, or of what it is missing in."""
        while place and place not in self.lines:
            place = place[:-1]
        return ValueError(f"{self.file}:{self.lines.get(place, 1)}: {what}")

    def mapping(self, place: Place, keys: Iterable[str]) -> dict[str, Any]:
        """A mapping that may have these keys.

        Raises:
            ValueError: if it is not a mapping, or has another key.
        """
        value, keys = self.at(place), list(keys)
        if not isinstance(value, dict):
            raise self.error(place, f"{name_of(place)} must be a mapping of {', '.join(keys)}, and is {value!r}")
        for key in value:
            if key not in keys:
                raise self.error((*place, key), f"unknown key {key}; the keys are {', '.join(keys)}")
        return value

    def items(self, place: Place) -> list[tuple[Place, Any]]:
        """The places and values of a list, of which none is there twice; what is no list is a list of one."""
        value = self.at(place)
        values = value if isinstance(value, list) else [value]
        found = [((*place, i) if isinstance(value, list) else place, item) for i, item in enumerate(values)]
        if not found:
            raise self.error(place, f"{name_of(place)} is empty; name at least one")
        for i, (where, item) in enumerate(found):
            if item in values[:i]:
                raise self.error(where, f"{name_of(place)} has {item} twice; keep one of them")
        return found

    def typed(self, place: Place, kind: type[T], default: T) -> T:
        """A value of this type, or the default where there is none; a whole number serves as a float.

        Raises:
            ValueError: if it is of another type, or a number below or at 0.
        """
        value = self.at(place)
        if value is None:
            return default
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(place, f"{name_of(place)} must be {WORDS[kind]}, and is {value!r}")
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not 0 < value < float("inf"):
            raise self.error(place, f"{name_of(place)} must be above 0, and is {value}")
        return value

    def at(self, place: Place) -> Any:
        """The value at a place; None where there is none."""
        value = self.content
        for key in place:
            if isinstance(value, dict):
                value = value.get(key)
            elif isinstance(value, list) and isinstance(key, int):
                value = value[key]
        return value


WORDS = {int: "a whole number", float: "a number", str: "a word", bool: "true or false", dict: "a mapping"}


def name_of(place: Place) -> str:
    """The last key that leads to a place."""
    return next((str(key) for key in reversed(place) if isinstance(key, str)), "the file")


def lines_of(node: yaml.Node, place: Place) -> Iterable[tuple[Place, int]]:
    """Every place below a node with its line, from 1."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*place, key.value), key.start_mark.line + 1
            yield from lines_of(value, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            yield (*place, i), item.start_mark.line + 1
            yield from lines_of(item, (*place, i))
