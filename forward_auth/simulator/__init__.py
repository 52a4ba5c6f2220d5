"""A pretend Pro Santé Connect: for the demonstration, for integrators, for tests. Honest, and dishonest on command.

For: trying a client without the real service, which is slow to get access to and never misbehaves when asked. Written from what
is publicly known of PSC, never from our own client. Refuses: to import anything of this project outside this folder (it is an
independent witness), and to be taken for the real service.

In a test
---------
    from forward_auth.simulator import Client, SimulatorThread

    with SimulatorThread(clients=[Client("hopital", "secret", ("http://auth.localhost:9401/psc/callback",))]) as psc:
        psc.issuer, psc.discovery_url, psc.port      # http://psc.localhost:PORT/…: connect to 127.0.0.1:PORT, Host: psc.localhost:PORT
        url = …                                      # the authorization URL your client made
        callback = psc.sign_in(url, "docteur-dupont")            # picks the person over real HTTP -> the callback URL with the code
        psc.sign_in(url, "infirmiere-leroy", mode="MOBILE", acr="0", cookies=jar)   # jar: dict, one per browser; keeps single sign-on
        psc.sign_in(url, "", cookies=jar)                        # follows the link only: single sign-on answers at once
        psc.faults.set("id_token.nonce_wrong")                   # on until cleared
        psc.faults.set("token.slow", 5, times=1)                 # a value, and how often
        with psc.faults.during("jwks.close"): …
        psc.faults.clear()
        psc.counts["token"]                                      # requests per endpoint; also "code", "refresh", "poll"
        psc.requests                                             # what arrived (Seen), without secrets
        psc.advance(121)                                         # its clock; or give clock=… to the constructor
        psc.rotate_keys(keep=False)
        psc.call(psc.end_session(sid))                           # with back-channel logout; psc.notices has what was sent
        psc.call(psc.stop()); psc.call(psc.start())              # down and up again: same port, sessions, keys
        psc.sign("id_token", psc.id_claims("hopital", "docteur-dupont"))            # a token by hand
        psc.decide("docteur-dupont", "approve")                  # a CIBA request that waits

Making a key takes a tenth of a second or more: `KEY = Key.rsa()` once, `SimulatorThread(key=KEY, …)` often.
In the same loop: `await psc.start()`, `await psc.stop()` of a `Simulator` (but `sign_in` blocks: call it from a thread).
`FAULTS` lists every fault: name -> (endpoint, does, expect, value). `people()` lists the persons.

With curl
---------
    psc-forward-auth simulator --port 8085
    curl -si -d person=docteur-dupont -d mode=CARD -d acr=eidas1 'http://wallet.psc.localhost:8085/auth?client_id=…&redirect_uri=…
         &response_type=code&scope=openid+scope_all&acr_values=eidas1&state=…&nonce=…'
    curl -s -d '{"name": "id_token.nonce_wrong"}' http://psc.localhost:8085/_simulator/faults      # see control.py for the rest

The answer to the first is a 302 to the redirect URI with `state`, `session_state`, `iss` and `code`, and the cookie of single sign-on.
"""

from .command import main
from .faults import FAULTS, Fault, Faults, UnknownFaultError
from .jose import Key
from .people import Person, people
from .realm import Client, Lifetimes
from .server import Seen, Simulator
from .thread import SimulatorThread

__all__ = [
    "FAULTS",
    "Client",
    "Fault",
    "Faults",
    "Key",
    "Lifetimes",
    "Person",
    "Seen",
    "Simulator",
    "SimulatorThread",
    "UnknownFaultError",
    "main",
    "people",
]
