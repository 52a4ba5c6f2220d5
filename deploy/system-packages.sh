#!/bin/sh
# The Debian packages that this project needs beside Python's: `system-packages.sh run` for the demonstration, `test` for the tests, `bench`.
# Installs what is missing when it may (root, or sudo without a password); otherwise prints the one line to run and ends with 1.
set -eu
export DEBIAN_FRONTEND=noninteractive

case "${1:-run}" in
    run)   wanted="python3 python3-venv nginx" ;;
    test)  wanted="python3 python3-venv nginx chromium prometheus systemd" ;;
    bench) wanted="python3 python3-venv nginx wrk util-linux" ;;
    *)     echo "usage: $0 run|test|bench" >&2; exit 2 ;;
esac

missing=""
for package in $wanted; do
    # What matters is that the program is there, whoever installed it.
    case "$package" in
        python3)      python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && continue ;;
        python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null && continue ;;
        nginx)        { command -v nginx || [ -x /usr/sbin/nginx ]; } >/dev/null && continue ;;
        chromium)     command -v chromium >/dev/null && continue ;;
        prometheus)   command -v promtool >/dev/null && continue ;;
        systemd)      command -v systemd-analyze >/dev/null && continue ;;
        wrk)          command -v wrk >/dev/null && continue ;;
        util-linux)   command -v taskset >/dev/null && continue ;;
    esac
    missing="$missing $package"
done
[ -n "$missing" ] || exit 0

line="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && $line
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo apt-get update -qq && sudo $line
else
    echo "Missing system packages. Run as root: $line" >&2
    exit 1
fi
