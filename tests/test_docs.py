"""Code that a page of the docs shows is code that is tested."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("file", sorted((ROOT / "tests" / "outside_package").rglob("*.[tp][oy]*")), ids=str)
def test_extending_shows_the_whole_outside_package(file: Path) -> None:
    if file.name != "__init__.py":
        assert file.read_text().strip() in (ROOT / "docs" / "extending.md").read_text()
