# Sourced by the executables here: makes .venv in the checkout and installs into it the versions of constraints/locked.txt,
# where that has not been done.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

# Nothing of the caller's Python is to be seen in the environment made here.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_TARGET PIP_PREFIX PIP_USER

# install [EXTRA]: install the checkout, editable, with an extra of pyproject.toml.
install() {
    local extra=${1:-} stamp=$venv/.installed${1:+-$1}
    if [[ $stamp -nt $root/pyproject.toml && $stamp -nt $root/constraints/locked.txt && $(<"$stamp") == "$root" ]]; then
        return
    fi
    local python moved=
    python=$(find_python)
    if [[ -e $venv/.installed && $(<"$venv/.installed") != "$root" ]]; then
        moved=1 # an environment's scripts hold absolute paths: it is made anew
    fi
    rm -f "$venv"/.installed*
    echo "Installing into $venv (once)" >&2
    "$python" -m venv ${moved:+--clear} "$venv"
    # As variables they hold for what builds a package, too; relative, since pip splits them at spaces.
    (
        cd "$root"
        export PIP_CONSTRAINT=constraints/locked.txt PIP_BUILD_CONSTRAINT=constraints/locked.txt
        "$venv/bin/python" -m pip install --disable-pip-version-check --editable ".${extra:+[$extra]}"
    )
    # Last, so that an interrupted installation is begun again.
    echo "$root" | tee "$venv/.installed" >"$stamp"
}

find_python() {
    local python
    for python in python3 python3.13 python3.12 python3.11 python3.10; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    echo "error: no Python >= 3.10 in PATH (python3 is $(python3 --version 2>&1 || true)): install one" >&2
    exit 2
}

# build_copy PYTHON: the package as it is installed, in build/lib, for tools that read sources and cannot follow an editable
# installation to the folders that are mapped into the package.
build_copy() {
    rm -rf build/lib
    "$1" -c "from setuptools import setup; setup()" -q build_py --build-lib build/lib
}
