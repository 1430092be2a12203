# Sourced in the project's folder with requirement files as arguments: goes into the active virtual environment, else into
# .venv, made if need be, and installs what is missing.
if [ -z "${VIRTUAL_ENV:-}" ]; then
    if [ ! -f .venv/bin/activate ]; then
        "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: PYTHON=python3.12 bash ...")'
        rm -rf .venv
        "${PYTHON:-python3}" -m venv .venv
    fi
    . .venv/bin/activate
fi
stamp=$VIRTUAL_ENV/installed-$(cat "$@" | cksum | tr -d ' ')
if [ ! -f "$stamp" ]; then
    echo "installing into $VIRTUAL_ENV (PyTorch is several GB; some minutes) ..."
    python -m pip install --quiet --disable-pip-version-check $(printf -- '-r %s ' "$@")
    touch "$stamp"
fi
