"""The command: `main(argv)`, in a process of its own."""

import signal
import socket
import subprocess
import sys

import pytest

from forward_auth.simulator import main

RUN = [sys.executable, "-c", "import sys; from forward_auth.simulator import main; sys.exit(main(sys.argv[1:]))"]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_says_ready_and_stops_cleanly(stop):
    """One line with the discovery URL when it listens; open house is announced; a signal ends it with 0."""
    with subprocess.Popen([*RUN, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert "ready" in line
            port = int(line.rsplit("psc.localhost:", 1)[1].split("/")[0])
            with socket.create_connection(("127.0.0.1", port), timeout=5) as idle:
                idle.sendall(b"GET /_simulator/ HTTP/1.1\r\nHost: x\r\n\r\n")
                assert idle.recv(15) == b"HTTP/1.1 200 OK"
                process.send_signal(stop)
                assert process.wait(5) == 0
            rest, said = process.stdout.read(), process.stderr.read()
        finally:
            process.kill()
    assert line.rstrip().endswith("/auth/realms/esante-wallet/.well-known/wallet-openid-configuration")
    assert rest == ""
    assert "any client id" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--port", "x"],
        ["--port", "0", "--client", "id-only"],
        ["--port", "0", "--client", "id:secret"],
        ["--port", "0", "--issuer", "psc.localhost"],
        ["--port", "0", "--issuer", "http://psc.localhost/"],
        ["--port", "0", "--people", "/nowhere/people.json"],
        ["--port", "0", "--backchannel-logout", "nobody=http://auth.localhost/"],
        ["--port", "0", "--unknown"],
    ],
)
def test_wrong_arguments_are_refused(argv, capsys):
    """Exit 2, with a reason on stderr and nothing on stdout."""
    assert main(argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err


def test_taken_port(capsys):
    """Exit 1 and one line when it cannot listen."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["--port", str(taken.getsockname()[1])]) == 1
    assert capsys.readouterr().err.startswith("simulator: cannot listen on 127.0.0.1:")


def test_declared_clients():
    """--client closes the house; the issuer is the one given."""
    argv = [
        "--port", "0", "--issuer", "http://psc.localhost:8080/auth/realms/esante-wallet",
        "--client", "hopital:s3cr3t:http://auth.localhost:8080/psc/callback,http://autre.localhost/cb",
        "--backchannel-logout", "hopital=http://auth.localhost:8080/psc/backchannel-logout",
    ]  # fmt: skip
    with subprocess.Popen([*RUN, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert "http://psc.localhost:8080/auth/realms/esante-wallet/.well-known/" in process.stdout.readline()
        finally:
            process.terminate()
        assert process.stderr.read() == ""
