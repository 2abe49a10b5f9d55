import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nnunet_archs.benchmark import run, workloads
from nnunet_archs.deploy import weights
from nnunet_archs.discovery import discovery_folder
from nnunet_archs.scripts import benchmark, export
from nnunet_archs.scripts import main as command


def nnunet_archs(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nnunet_archs.scripts.main", *arguments], capture_output=True, text=True
    )


def fake_subcommand(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(args: object) -> int:
        raise error

    module = ModuleType("nnunet_archs.scripts.path")
    module.run = run  # type: ignore[attr-defined]
    module.EXAMPLE = "nnunet-archs path"  # type: ignore[attr-defined]
    module.add_arguments = lambda parser: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_path_prints_the_discovery_folder_and_nothing_else() -> None:
    result = nnunet_archs("path")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == discovery_folder() + "\n"
    folder = Path(result.stdout.strip())
    assert folder.is_absolute()
    assert {file.name for file in folder.glob("*.py")} == {"__init__.py", "nnunet_archs_trainers.py"}


def test_helps_path_and_names_load_neither_torch_nor_nnunet() -> None:
    commands = [[], ["--help"], ["path"], ["list", "--names"], ["study", "run", "--help"]]
    commands += [[name, "--help"] for name in command.SUBCOMMANDS]
    code = (
        "import contextlib, sys; from nnunet_archs.scripts.main import main\n"
        f"for arguments in {commands}:\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        assert main(arguments) == 0\n"
        "    assert not {'torch', 'nnunetv2', 'numpy'} & set(sys.modules), arguments"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_nothing_asked_for_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 0
    assert capsys.readouterr().out.startswith("usage: nnunet-archs")


def test_help_lists_each_subcommand() -> None:
    result = nnunet_archs("--help")
    assert result.returncode == 0
    printed = " ".join(result.stdout.split())
    for name, line in command.SUBCOMMANDS.items():
        assert f"{name} {line}" in printed


@pytest.mark.parametrize("name", command.SUBCOMMANDS)
def test_help_line_is_the_modules_first(name: str) -> None:
    module = importlib.import_module(f"nnunet_archs.scripts.{name}")
    assert (module.__doc__ or "").splitlines()[0] == command.SUBCOMMANDS[name]


@pytest.mark.parametrize("name", command.SUBCOMMANDS)
def test_help_of_a_subcommand(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        command.main([name, "--help"])
    printed = capsys.readouterr().out
    assert f"usage: nnunet-archs {name}" in printed
    example = printed.split("example:\n  ")[1].splitlines()[0]
    assert f"nnunet-archs {name}" in example


@pytest.mark.parametrize("name", command.SUBCOMMANDS)
def test_the_example_is_a_command_that_is_understood(name: str) -> None:
    example = importlib.import_module(f"nnunet_archs.scripts.{name}").EXAMPLE
    words = shlex.split(example.split("nnunet-archs ")[1].split(")")[0].split(">")[0])
    assert command.parse(words).run


def test_choices_that_help_names_without_loading_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(weights.FORMATS) == export.FORMATS
    assert tuple(run.FORMS) == benchmark.FORMS
    with pytest.raises(SystemExit, match="0"):
        command.main(["benchmark", "--help"])
    assert f"of {', '.join(workloads.TOPOLOGIES)};" in " ".join(capsys.readouterr().out.split())


def test_version_names_what_matters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        command.main(["--version"])
    printed = capsys.readouterr().out
    assert [part.split()[0] for part in printed.split(", ")] == ["nnunet-archs", "nnunetv2", "torch"]


@pytest.mark.parametrize("arguments", [["no-such-command"], ["path", "--no-such-option"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments)
    assert "nnunet-archs" in capsys.readouterr().err


def test_value_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake_subcommand(monkeypatch, ValueError("3 is odd:\n  take 4"))
    assert command.main(["path"]) == 2
    assert capsys.readouterr().err == "nnunet-archs: error: 3 is odd: take 4\n"


def test_interrupt_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake_subcommand(monkeypatch, KeyboardInterrupt())
    assert command.main(["path"]) == 130
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("argument", ["path", "--help"])
def test_closed_pipe_leaves_no_traceback(argument: str) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "nnunet_archs.scripts.main", argument]
    # Buffered, as usual: argparse itself swallows an error at once.
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": ""})
    os.close(write)
    assert (result.returncode, result.stderr) == (141, b"")
