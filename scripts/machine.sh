#!/bin/sh
# Find or install what `make` needs from the system.
#   machine.sh python    print the Python to build .venv with, or an error message
#   machine.sh browser   print the system's Chromium; exit code 1 without one
#   machine.sh axe       fetch what the browser tests need of npm: axe-core, onnxruntime-web
#   machine.sh prepare   install what is missing of the first two, if apt-get may be used
set -eu

find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' \
            2>/dev/null; then
            found=${found:-$name}
            "$name" -c 'import ensurepip, venv' 2>/dev/null && echo "$name" && return
        fi
    done
    return 1
}

explain_python() {
    if [ -n "${found:-}" ]; then
        echo "$found cannot make virtual environments: install venv (Debian: apt-get install python3-venv)."
    else
        echo "No Python from 3.11 to 3.14 in PATH: install one (Debian: apt-get install python3-venv)."
    fi >&2
    return 1
}

find_browser() {  # the same names as in tests/conftest.py
    command -v chromium || command -v chromium-browser || command -v google-chrome
}

apt_install() {
    root=$([ "$(id -u)" = 0 ] || echo "sudo -n")
    if command -v apt-get >/dev/null && $root true 2>/dev/null; then
        echo "apt-get install $*"
        $root apt-get update -qq
        $root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -qq -y --no-install-recommends "$@" >/dev/null
    fi
}

fetch_axe() {  # the versions and the checksums of tests/browser/package-lock.json
    if ! command -v npm >/dev/null; then
        echo "No npm in PATH, which fetches axe-core and onnxruntime-web: install Node.js (Debian: apt-get install npm)." >&2
        return 1
    fi
    npm ci --prefix tests/browser --ignore-scripts --omit-lockfile-registry-resolved \
        --no-audit --no-fund --loglevel error >/dev/null
}

case "${1:-}" in
    python) find_python || explain_python ;;
    browser) find_browser ;;
    axe) fetch_axe ;;
    prepare)
        [ -x .venv/bin/python ] || find_python >/dev/null || apt_install python3-venv || true
        find_browser >/dev/null || apt_install chromium fonts-liberation ||
            echo "apt-get could not install Chromium: Playwright's own is next."
        ;;
    *) sed -n '2,6s/^# //p' "$0" >&2; exit 2 ;;
esac
