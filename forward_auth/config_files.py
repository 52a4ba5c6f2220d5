"""The files a configuration names: secrets, authorities, a logo, lists of national ids; read, or said what is wrong.

For: config_keys.py. Refuses: to open anything else, to wait at a pipe, and to put a secret into a message. A secret that everybody
on the machine can read is refused, except where a container engine or systemd chose its mode (decision 38).
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forward_auth.config_reading import Kind, Reading, Schema, Wrong, one_line, shown
from forward_auth.secret import Secret
from forward_auth.toml_lines import Where

EXAMPLE_SECRETS: Final = frozenset(
    {"changez-moi", "changeme", "change-me", "remplacez-moi", "replace-me", "client-secret"}
)
SECRET_PLACES: Final = (
    "/run/secrets",
    "/var/run/secrets",
)  # made by the container engine, with modes one cannot choose
_LONGEST_LIST_FILE: Final = 8 << 20
_LONGEST_SECRET_FILE: Final = 64 << 10
_LARGEST_LOGO: Final = 200_000


def _absolute(reading: Reading, text: str) -> Path:
    """A path of the configuration; relative ones are relative to the configuration file."""
    return reading.directory / text


def _named(path: Path) -> str:
    """A path in a message, whole: cut short it would lose the file's own name, and its cure could not be run."""
    whole = repr(str(path))[1:-1]
    return f'"{str(path) if str(path).isprintable() else whole}"'


def _read_file(path: Path, most: int, name: str = "") -> tuple[bytes, os.stat_result]:
    """The bytes and state of a regular file. Never waits at a pipe. Raises Wrong, which calls the file `name`."""
    name = name or _named(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode):
                raise Wrong(f"{name} is not a file", "name a file that this service may read")
            content = bytearray()
            while len(content) <= most and (part := os.read(descriptor, most + 1 - len(content))):
                content += part
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise Wrong(f"{name} cannot be read ({reason})", "name a file that this service may read") from None
    if len(content) > most:
        raise Wrong(f"{name} is larger than {most} bytes", "name the right file")
    return bytes(content), state


def check_secret(text: str, *, user: bool = False) -> Secret:
    """A secret that is one, and not the one of the examples. Raises Wrong, never with the secret in it."""
    if not text:
        raise Wrong("the secret is empty", "write the secret that was given to you")
    if text != text.strip() or not text.isprintable():
        raise Wrong(
            "the secret has more than one line, or blanks or control characters", "keep the secret alone, on one line"
        )
    if text.lower() in EXAMPLE_SECRETS:
        raise Wrong("the secret is the one of the examples", "write the secret that was given to you")
    if user and not all(text.partition(":")):
        raise Wrong("does not hold user:password", "write the user, a colon and the password, on one line")
    return Secret(text)


@dataclass(frozen=True, slots=True)
class SecretFile(Kind):
    """A file that holds one secret on one line, readable by nobody but its owner and group (decision 38)."""

    example: str
    user: bool = False

    def parse(self, reading: Reading, where: Where, value: object) -> Secret:
        path = _absolute(reading, one_line(self, value))
        # Not by its name: who writes the secret itself where its file belongs would find it in the log.
        content, state = _read_file(path, _LONGEST_SECRET_FILE, "the file")
        if state.st_mode & stat.S_IRWXO:
            problem, cure = (
                f"{_named(path)} is open to everybody on this machine",
                f"run chmod o= {_named(path)}",
            )
            if not _is_handed_in(path, reading.environ):
                raise Wrong(problem, cure)
            reading.warn(where, problem, "let it be handed in with mode 0400")
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            raise Wrong("the file is not text", "keep the secret alone, on one line") from None
        return check_secret(text.removesuffix("\n").removesuffix("\r"), user=self.user)


def _is_handed_in(path: Path, environ: Mapping[str, str]) -> bool:
    """Whether a container engine or systemd chose the file's mode, and not the administrator."""
    plain = os.path.normpath(path)
    places = [*SECRET_PLACES, os.path.normpath(environ.get("CREDENTIALS_DIRECTORY", "") or "/")]
    return any(place != "/" and plain.startswith(place + "/") for place in places)


@dataclass(frozen=True, slots=True)
class CertificateFile(Kind):
    """A PEM file of certification authorities."""

    example: str = '"/etc/ssl/certs/autorite-hopital.pem"'

    def parse(self, reading: Reading, where: Where, value: object) -> Path:
        path = _absolute(reading, one_line(self, value))
        content, _ = _read_file(path, _LONGEST_LIST_FILE)
        from cryptography.x509 import load_pem_x509_certificates  # only where there is such a file

        try:
            load_pem_x509_certificates(content)
        except ValueError:
            wrong = f"{_named(path)} holds no certificate, or one that cannot be read"
            raise Wrong(wrong, "name a PEM file with the authorities to trust") from None
        return path


@dataclass(frozen=True, slots=True)
class LogoFile(Kind):
    """An SVG or PNG, small, and without script: it is served from the origin people sign in at."""

    example: str = '"/etc/psc-forward-auth/logo.svg"'

    def parse(self, reading: Reading, where: Where, value: object) -> Path:
        path = _absolute(reading, one_line(self, value))
        content, _ = _read_file(path, _LARGEST_LOGO)
        lower = content.lower()
        suffix = path.suffix.lower()
        if not (suffix == ".png" and content.startswith(b"\x89PNG\r\n\x1a\n")) and not (
            suffix == ".svg" and b"<svg" in lower[:4096]
        ):
            raise Wrong(f"{_named(path)} is neither an SVG nor a PNG", "name an image ending in .svg or .png")
        if suffix == ".svg" and re.search(rb"<script|<foreignobject|<!entity|javascript:|\son[a-z]+\s*=|\0", lower):
            raise Wrong(f"{_named(path)} holds script", "export it as a plain SVG, or as PNG")
        return path


@dataclass(frozen=True, slots=True)
class NationalIds(Kind):
    """A file of national ids, one a line; `#` begins a comment. Read as a set, once, when the configuration is."""

    example: str = '"liste-blanche.txt"'

    def parse(self, reading: Reading, where: Where, value: object) -> frozenset[str]:
        path = _absolute(reading, one_line(self, value))
        content, state = _read_file(path, _LONGEST_LIST_FILE)
        if state.st_mode & stat.S_IWOTH:
            raise Wrong(f"{_named(path)} can be written by everybody on this machine", f"run chmod o-w {_named(path)}")
        try:
            lines = content.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise Wrong(f"{_named(path)} is not UTF-8 text", "write one national id a line") from None
        ids = {number: line.partition("#")[0].strip() for number, line in enumerate(lines, 1)}
        for number, text in ids.items():
            if text and not is_national_id(text):
                raise Wrong(
                    f"line {number} of {_named(path)} is not a national id",
                    "write one national id a line, comments after #",
                )
        found = frozenset(filter(None, ids.values()))
        if not found:
            reading.warn(where, f"{_named(path)} names nobody", "write one national id a line, or leave the key out")
        return found


def is_national_id(text: str) -> bool:
    """Wide on purpose: ids may hold a slash, test ids letters; no check digit, PSC's own examples fail it."""
    return re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z/._-]{0,63}", text) is not None


@dataclass(frozen=True, slots=True)
class WrittenFile(Kind):
    """The absolute path of a file this service writes; whether it can is seen at start, not here."""

    example: str

    def parse(self, reading: Reading, where: Where, value: object) -> Path:
        text = one_line(self, value)
        if not text.startswith("/") or ".." in text.split("/") or text.endswith("/") or len(text) > 1000:
            raise Wrong(f"{shown(text)} is not the absolute path of a file", f"write {self.example}")
        return Path(text)

    def schema(self) -> Schema:
        return {"type": "string", "pattern": "^/.+"}
