# shellcheck shell=bash
# Sourced by the scripts of this folder: finds or makes the Python environment and installs jaxsae into it.
# Sets PYTHON. Where a virtual environment is active jaxsae is installed into that one; else into .venv in the
# checkout, made when absent. JAXSAE_PYTHON names a Python that has jaxsae already, in an image say: it is taken as it is.

prepare_environment() { # $1: extras such as "test", or nothing
  local checkout extras="$1" stamp wanted
  checkout="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
  if [ -n "${JAXSAE_PYTHON:-}" ]; then
    PYTHON="$JAXSAE_PYTHON"
    return
  elif [ -n "${VIRTUAL_ENV:-}" ]; then
    PYTHON="$VIRTUAL_ENV/bin/python"
  else
    PYTHON="$checkout/.venv/bin/python"
    if [ ! -x "$PYTHON" ]; then
      local candidate base=""
      for candidate in python3 python3.12 python3.11 python3.13; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then base=$candidate; break; fi
      done
      if [ -z "$base" ]; then
        echo "jaxsae needs Python 3.11 or newer, and none was found on the PATH" >&2
        return 2
      fi
      echo "making .venv with $("$base" --version)" >&2
      "$base" -m venv "$checkout/.venv" || { echo "python3 -m venv failed; on Debian: apt install python3-venv" >&2; return 2; }
    fi
  fi
  # Installed again only when setup.py or the wish for extras has changed since.
  stamp="$("$PYTHON" -c 'import sys; print(sys.prefix)')/.jaxsae-${extras:-core}"
  wanted="$checkout $(cksum <"$checkout/setup.py")"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "installing jaxsae${extras:+[$extras]}" >&2
    "$PYTHON" -m pip install --quiet --disable-pip-version-check -e "$checkout${extras:+[$extras]}" || return 1
    printf '%s' "$wanted" >"$stamp"
  fi
}
