from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_archs.scripts.main import SUBCOMMANDS, main

# what bash does at the tabulator: calls the function that is registered for the command, and shows COMPREPLY
TABULATOR = """
eval "$(nnunet-archs --print-completion bash)"
while IFS= read -r line; do
    read -r -a COMP_WORDS <<<"$line"
    [[ $line == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$line COMP_POINT=${#line} COMPREPLY=()
    "$(complete -p nnunet-archs | grep -oE -- '-F [^ ]+' | cut -c4-)"
    echo "${COMPREPLY[@]}"
done
"""


def test_bash_completes_commands_options_choices_files_and_trainers(tmp_path: Path) -> None:
    (tmp_path / "trained_model").mkdir()
    expected = {
        "nnunet-archs exp": {"export"},
        "nnunet-archs export trained": {"trained_model"},
        "nnunet-archs export trained_model --to o": {"onnx"},
        "nnunet-archs study ": {"run", "status", "report"},
        "nnunet-archs plan --pub": {"--published"},
        "nnunet-archs plan -tr CAgg": {"CAggNetTrainer"},
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    bash = subprocess.run(
        ["bash", "-c", TABULATOR],
        input="\n".join(expected) + "\n",
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
    )
    offered = [set(shlex.split(line)) for line in bash.stdout.splitlines()]
    for (typed, words), found in zip(expected.items(), offered, strict=True):
        assert words <= found, typed
        last = typed.rsplit(" ", 1)[1]
        assert all(word.startswith(last) for word in found), typed


@pytest.mark.parametrize("shell", ["zsh", "tcsh", "fish"])
def test_other_shells_have_every_subcommand(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--print-completion", shell])
    printed = capsys.readouterr().out
    assert all(name in printed for name in SUBCOMMANDS)
    assert "nnunet-archs list --names" in printed
