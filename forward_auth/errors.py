"""One small tree of errors: who is at fault, what the person reads, what the log says.

`code` is a short stable word: pages look up their French text by it, the log and the metrics name it. `detail` is for the
log: English, one line, no secret, no identity. Refuses: to carry what PSC, a browser or a file said verbatim and unbounded.
"""

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """Who can do something about it."""

    PERSON = "person"
    CLIENT = "client"
    OPERATOR = "operator"
    PSC = "psc"
    STORE = "store"
    OURS = "ours"


class ForwardAuthError(Exception):
    """The root. `code`: see the subclasses; `detail`: one English line for the log."""

    fault: Fault = Fault.OURS

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


class PSCUnavailable(ForwardAuthError):
    """PSC could not be asked: no route, time-out, 5xx, maintenance page, nothing known of it yet."""

    fault = Fault.PSC


class PSCAnswerRefused(ForwardAuthError):
    """PSC (or somebody in its name) answered something that must not be believed: wrong nonce, key, audience, acr …"""

    fault = Fault.PSC


class PSCDenied(ForwardAuthError):
    """PSC, or the person there, said no: `error=access_denied`, `invalid_grant` … `code` is the OAuth error code."""

    fault = Fault.PERSON


class SignInRefused(ForwardAuthError):
    """A start or callback that does not fit a sign-in under way: stale, foreign, replayed, doubled parameter."""

    fault = Fault.CLIENT


class StoreUnavailable(ForwardAuthError):
    """The store could not answer. Never means «no such login»."""

    fault = Fault.STORE


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing to mend in a configuration. `line` is 1-based, 0 when there is no line (environment)."""

    file: str
    line: int
    key: str
    problem: str
    cure: str
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        word = "warning: " if self.warning else ""
        return f"{place}: {word}{self.key}: {self.problem}; {self.cure}"


class ConfigError(ForwardAuthError):
    """All the mistakes of one configuration, at once."""

    fault = Fault.OPERATOR

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("config", f"{len(mistakes)} mistakes")
        self.mistakes = mistakes
