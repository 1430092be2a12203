# Sourced in the project's folder with requirement files as arguments: activates .venv, made and filled if need be.
stamp=.venv/installed-$(cat "$@" | cksum | tr -d ' ')
if [ ! -x .venv/bin/python ]; then
    "${PYTHON:-python3}" -m venv .venv
fi
. .venv/bin/activate
if [ ! -f "$stamp" ]; then
    echo "installing into .venv (PyTorch is several GB; some minutes) ..."
    python -m pip install --quiet --disable-pip-version-check $(printf -- '-r %s ' "$@")
    touch "$stamp"
fi
