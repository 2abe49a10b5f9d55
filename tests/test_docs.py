"""What the docs show is true: code that runs, commands that parse, links that lead somewhere."""

import doctest
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from nnunet_archs.scripts.main import parse

ROOT = Path(__file__).parents[1]


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("name", ["pyproject.toml", "linknet/network.py", "linknet/trainer.py", "test_linknet.py"])
def test_extending_shows_the_whole_outside_package(name: str) -> None:
    shown = text(ROOT / "docs" / "extending.md")
    assert text(ROOT / "tests" / "outside_package" / name).strip() in shown


def test_examples_of_the_python_page_run() -> None:
    file = ROOT / "docs" / "reference" / "python.md"
    options = doctest.ELLIPSIS | doctest.REPORT_NDIFF
    result = doctest.testfile(str(file), module_relative=False, optionflags=options, encoding="utf-8")
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("file", [page for page in PAGES if "nnunet-archs " in text(page)], ids=lambda page: page.name)
def test_commands_parse(file: Path) -> None:
    for command in commands(file):
        parse(shlex.split(command, comments=True)[1:])


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    """Those of the pages below docs/ are checked when the site is built."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text(ROOT / name))
    assert [link for link in links if not (ROOT / link).exists()] == []


def commands(page: Path) -> Iterator[str]:
    """The commands of this package in a page's blocks of shell, a line each, without what they are piped into."""
    for block in re.findall(r"```bash\n(.*?)```", text(page), flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip().startswith("nnunet-archs "):
                yield re.split(r"\s(?:>|\||&&)\s", line.strip())[0]
