"""What can be decided about a request: Allow, SignIn, Refuse. Values, never exceptions; anything unknown is Refuse.

Refuses: to be an allow by accident. An Allow is made in one place of the whole program (gate.py; tests/test_rooms.py counts).
"""

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Allow:
    """It may pass. `lines`: every identity header, ready to send; `outcome`: allowed | open (no identity)."""

    lines: bytes = field(repr=False)
    outcome: str
    app: str


class Why(StrEnum):
    """Why somebody has to sign in."""

    NO_SESSION = "none"  # no ticket, or one that is not ours
    ENDED = "ended"  # a ticket of ours whose login is over
    STEP_UP = "step_up"  # signed in, but not recently or not strongly enough for this rule


@dataclass(frozen=True, slots=True)
class SignIn:
    """Not before a sign-in. `acr`, `max_age`: what this rule asks beyond the ordinary, sent to PSC (decisions on step-up)."""

    why: Why
    app: str
    acr: tuple[str, ...] = ()
    max_age: int | None = None


class Because(StrEnum):
    """Why a request is refused whoever asks, or refused to this person."""

    MALFORMED = "malformed"  # the proxy did not tell the original request in one clear way
    UNKNOWN_HOST = "unknown_host"  # no app has this origin
    MISROUTED = "misrouted"  # a path below path_prefix: the proxy must route it to the outer door
    NO_RULE = "no_rule"  # no rule of the app matches
    RULE = "rule"  # signed in, and the rule says no
    OURS = "ours"  # something failed on our side


@dataclass(frozen=True, slots=True)
class Refuse:
    """No. `rule`: number of the rule that said so, 0 for none; `reference`: what the person can read to the help desk."""

    because: Because
    app: str = ""
    rule: int = 0
    reference: str = ""
    detail: str = ""  # for the log; never for the person


Decision = Allow | SignIn | Refuse
