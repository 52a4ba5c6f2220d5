"""Which login lives, and which ticket opens it: contract §3 and §5, decisions 2, 10, 14, 15, 16, 26, 36.

A browser holds one ticket for each host; several tickets point at one login. A login ends `ABSOLUTE` after the authentication at PSC, or after
`IDLE` without an allowed check, or when it is ended: by its person, by another one in the same browser, by PSC.
"""

from dataclasses import dataclass, field

IDLE = 30 * 60
ABSOLUTE = 4 * 60 * 60
WRITTEN = IDLE // 60 + 1  # activity reaches the store this often; another process may know of it so much later


@dataclass
class Login:
    """One authentication, and what was made of it. `left`: its person, or another, ended it; else it ended by itself."""

    person: str
    sub: str
    sid: str
    auth_time: int
    mode: str
    acr: str
    seen: float
    ended: bool = False
    left: bool = False

    def lives(self, now: float) -> bool:
        return not self.ended and now < self.auth_time + ABSOLUTE and now - self.seen < IDLE

    def doubtful(self, now: float) -> bool:
        """So near its idle limit that two processes may differ."""
        return not self.ended and IDLE - WRITTEN - 1 <= now - self.seen < IDLE


@dataclass
class Sessions:
    """`tickets`: (browser, host) -> the login that this browser's cookie for this host was made for, also when it is over."""

    tickets: dict[tuple[str, str], Login] = field(default_factory=dict)
    logins: list[Login] = field(default_factory=list)
    ended_sids: set[str] = field(default_factory=set)
    ended_subs: dict[str, int] = field(default_factory=dict)

    def live(self, browser: str, host: str, now: float) -> Login | None:
        login = self.tickets.get((browser, host))
        return login if login is not None and login.lives(now) else None

    def used(self, login: Login, now: float) -> None:
        """An allowed check, but for those of background paths."""
        login.seen = now

    def begin(self, browser: str, host: str, new: Login, now: float) -> Login | None:
        """An authentication that was believed comes back to this browser. None: PSC ended that session before it got here."""
        previous = self.live(browser, host, now)
        if previous is not None and previous.person != new.person:
            self.end(previous)
            previous = None
        if new.sid in self.ended_sids or new.auth_time <= self.ended_subs.get(new.sub, -1):
            return None
        if previous is not None:  # the same person: in place, all tickets stay
            previous.sid, previous.auth_time = new.sid, new.auth_time
            previous.mode, previous.acr, previous.seen = new.mode, new.acr, now
            new = previous
        else:
            self.logins.append(new)
        self.tickets[browser, host] = new
        return new

    def hand_off(self, browser: str, login: Login, host: str) -> None:
        self.tickets[browser, host] = login

    def end(self, login: Login, *, left: bool = True) -> None:
        login.ended, login.left = True, left

    def sign_out(self, browser: str, host: str, now: float) -> None:
        """Acknowledged: over on every host and in every process; the cookie of this host is gone."""
        login = self.live(browser, host, now)
        if login is not None:
            self.end(login)
        self.tickets.pop((browser, host), None)

    def back_channel(self, iat: int, *, sid: str = "", sub: str = "") -> None:
        """PSC says that somebody has left: a session, or whatever a person had begun until then."""
        if sid:
            self.ended_sids.add(sid)
        else:
            self.ended_subs[sub] = max(iat, self.ended_subs.get(sub, -1))
        for login in self.logins:
            if not login.ended and (login.sid == sid if sid else login.sub == sub and login.auth_time <= iat):
                self.end(login, left=False)
