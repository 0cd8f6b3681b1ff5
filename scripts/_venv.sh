# The virtual environment of this checkout. Sourced by the other scripts, from bash 3.2 on:
#
#     . "$(dirname "$0")/_venv.sh"
#     ensure_venv "postgresql,sqlite,server" demo/requirements.txt
#
# ensure_venv EXTRAS [REQUIREMENTS-FILE ...]
#     makes .venv at the root of the repository if there is no usable one, with the newest supported
#     Python that it finds, installs this project in editable mode with the extras (comma separated,
#     may be empty) and what the files (relative to the root) require, and sets VENV_PYTHON.
#     Returns 1, having said why and what to do, if it cannot.
#
# PYTHON=/path/to/python chooses the Python for a new .venv. When nothing has changed since the last
# call with the same arguments, only a hash is computed.

VENV_ROOT=$(CDPATH="" cd -- "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV_DIR=$VENV_ROOT/.venv
VENV_VERSIONS="3.14 3.13 3.12 3.11"  # newest first

ensure_venv() {
    local extras=$1 stamp hash file
    shift
    VENV_PYTHON=$VENV_DIR/bin/python
    _venv_exists || _venv_make || return 1
    # Each caller has a stamp of its own, named after what it wants, so that two scripts with
    # different wishes do not make each other install again.
    stamp=$VENV_DIR/.installed-$(printf '%s' "$extras $*" | tr -c 'A-Za-z0-9' '_')
    hash=$(_venv_hash "$extras" "$@") || return 1
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$hash" ] && return 0
    echo "Installing what is needed into .venv (a minute or so the first time) ..." >&2
    set -- "$@" --
    while [ "$1" != -- ]; do
        file=$1
        shift
        set -- "$@" -r "$VENV_ROOT/$file"
    done
    shift
    rm -f "$stamp"
    if ! "$VENV_PYTHON" -m pip install --quiet --disable-pip-version-check \
            -e "$VENV_ROOT${extras:+[$extras]}" "$@" >&2; then
        echo "The installation failed; pip's message above says why. It is safe to try again." >&2
        return 1
    fi
    printf '%s\n' "$hash" > "$stamp"
}

# Whether .venv has a Python that runs, is supported and can install.
_venv_exists() {
    _venv_supports "$VENV_PYTHON" pip
}

# _venv_supports PYTHON MODULE ...: whether that Python runs, is supported and has the modules. A
# candidate may be there and not work: a pyenv shim of a version that is not selected, a .venv
# whose Python was uninstalled, a Debian Python without its venv package.
_venv_supports() {
    local python=$1
    shift
    "$python" - "$VENV_VERSIONS" "$@" > /dev/null 2>&1 <<'PYTHON'
import importlib
import sys

if "%d.%d" % sys.version_info[:2] not in sys.argv[1].split():
    sys.exit(1)
for module in sys.argv[2:]:
    importlib.import_module(module)
PYTHON
}

# Print the newest usable Python.
_venv_find_python() {
    local version candidate
    if [ -n "${PYTHON:-}" ]; then
        _venv_supports "$PYTHON" venv ensurepip && echo "$PYTHON"
        return
    fi
    for version in $VENV_VERSIONS; do
        # pyenv's directories are in no useful order within a minor version; any of them will do.
        for candidate in $(type -aP "python$version") \
                "${HOME:-}"/.pyenv/versions/"$version"*/bin/python"$version"; do
            _venv_supports "$candidate" venv ensurepip && echo "$candidate" && return
        done
    done
    for candidate in $(type -aP python3); do
        _venv_supports "$candidate" venv ensurepip && echo "$candidate" && return
    done
    return 1
}

_venv_make() {
    local python
    # tox may have left a file there that names the environment it made last.
    if [ -f "$VENV_DIR" ]; then rm -f "$VENV_DIR"; fi
    if [ -e "$VENV_DIR" ] && [ ! -f "$VENV_DIR/pyvenv.cfg" ]; then
        echo "$VENV_DIR exists, but is no virtual environment. Move it away and try again." >&2
        return 1
    fi
    if ! python=$(_venv_find_python); then
        echo "No usable Python found${PYTHON:+ at PYTHON=$PYTHON}. One of these versions is" \
            "needed, with its venv module: $VENV_VERSIONS." >&2
        echo "On Debian or Ubuntu: apt install python3-venv. With pyenv: pyenv install 3.13." >&2
        return 1
    fi
    echo "Making .venv with $("$python" --version) ($python) ..." >&2
    # --clear: what is there was found unusable, or was interrupted half made.
    "$python" -m venv --clear "$VENV_DIR" >&2
}

# _venv_hash EXTRAS FILE ...: print a hash of all that decides what gets installed.
_venv_hash() {
    local extras=$1
    shift
    "$VENV_PYTHON" - "$VENV_ROOT" "$extras" pyproject.toml "$@" <<'PYTHON'
import hashlib
import pathlib
import sys

digest = hashlib.sha256(f"{sys.version} {sys.prefix} {sys.argv[2]}".encode())
for name in sys.argv[3:]:
    digest.update(name.encode() + pathlib.Path(sys.argv[1], name).read_bytes())
print(digest.hexdigest())
PYTHON
}
