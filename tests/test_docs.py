"""Code that a page of the docs shows is code that is tested."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["pyproject.toml", "linknet/network.py", "linknet/trainer.py", "test_linknet.py"])
def test_extending_shows_the_whole_outside_package(name: str) -> None:
    assert (ROOT / "tests" / "outside_package" / name).read_text(encoding="utf-8").strip() in page("extending.md")


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")
