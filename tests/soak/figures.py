"""What the long run has measured, as one line per figure with its target and whether it is met.

For: reading the end of `make soak`. A figure that a run of this length cannot judge is told as measured and «not judged». Refuses: to call an unknown met.
"""

import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field

from running import CLIENT
from soak.hospital import Hospital
from soak.wire import quantile
from soak.world import World


@dataclass
class Life:
    """One process: (seconds, MiB, descriptors, threads, people inside), once a second."""

    pid: int
    seen: list[tuple[float, float, int, int, int]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return self.seen[-1][0] - self.seen[0][0] if self.seen else 0.0

    def slope(self) -> tuple[float, float]:
        """-> (MiB grown, over so many seconds), by least squares over the second half of this life: the first fills what is bounded."""
        half = self.seen[len(self.seen) // 2 :]
        if len(half) < 3:
            return 0.0, 0.0
        mean_t = sum(each[0] for each in half) / len(half)
        mean_m = sum(each[1] for each in half) / len(half)
        spread = sum((each[0] - mean_t) ** 2 for each in half)
        rate = sum((each[0] - mean_t) * (each[1] - mean_m) for each in half) / spread if spread else 0.0
        seconds = half[-1][0] - half[0][0]
        return rate * seconds, seconds


class Figures:
    """Filled while the run goes on, read at its end."""

    def __init__(self, hospital: Hospital, world: World) -> None:
        self.hospital = hospital
        self.world = world
        self.notes: list[str] = []
        self.sign_ins: Counter[str] = Counter()
        self.sign_outs: Counter[str] = Counter()
        self.clock: Counter[str] = Counter()
        self.shapes = self.slow = self.again = self.impatient = 0
        self.crashes: list[float] = []
        self.restarts: list[
            tuple[float, float, bool]
        ] = []  # seconds to end, to start, and whether others had the processor
        self.lives: list[Life] = []
        self.calm: list[float] = []
        self.psc_away: list[float] = []
        self.page = (0, 0.0)
        self.recovered = 0.0
        self.probes = (0, 0.0)  # requests to PSC while it was away, in so many seconds
        self.flood: tuple[list[float], int, float] = ([], 0, 1.0)
        self.bogus = (0, 0.0)
        self.restarted = (0, 0, 0)
        self.began_with = (0, 0)
        self.mixed_from = (0.0, 0)
        self.mixed_to = (0.0, 0)

    def note(self, sentence: str) -> None:
        if len(self.notes) < 40:
            self.notes.append(sentence)

    def new_life(self) -> None:
        if not self.lives or self.lives[-1].pid != self.hospital.process.pid:
            self.lives.append(Life(self.hospital.process.pid))

    def look(self, inside: int) -> None:
        if self.lives and self.lives[-1].pid == self.hospital.process.pid:
            self.lives[-1].seen.append(
                (time.monotonic(), self.hospital.resident(), self.hospital.files(), self.hospital.threads(), inside)
            )

    def progress(self) -> str:
        world = self.world
        bad = ", ".join(f"{name} {count}" for name, count in sorted(world.counts.items()))
        return f"{world.answers} answers, {len(world.inside)} inside; {bad}"

    # -- what is left behind ---------------------------------------------------------------------------------------------------

    def _log(self) -> tuple[int, int, str]:
        """-> (tracebacks, tasks whose exception nobody saw, the first of either)."""
        tracebacks, lost, first = 0, 0, ""
        for line in self.hospital.log_path.read_text(errors="replace").splitlines():
            unseen = "never retrieved" in line
            if unseen or "Traceback" in line:
                tracebacks += not unseen
                lost += unseen
                first = first or line[:600]
        return tracebacks, lost, first

    def _secrets(self) -> int:
        """How many of the secrets of this run stand in a log of ours, of nginx, or in the trail."""
        hospital = self.hospital
        paths = (hospital.log_path, hospital.folder / "audit.jsonl", hospital.nginx.folder / "error.log")
        text = "".join(path.read_text(errors="replace") for path in paths if path.exists())
        found = CLIENT.secret in text
        for ticket in self.world.secrets:
            found += ticket in text
        return int(found)

    def _trail(self, signed_in: Counter[str], signed_out: Counter[str]) -> tuple[int, int, int]:
        """-> (events that were due, missing, lines that are no JSON)."""
        written: Counter[tuple[str, str]] = Counter()
        broken = 0
        for line in (self.hospital.folder / "audit.jsonl").read_text(errors="replace").splitlines():
            try:
                told = json.loads(line)
                written[told["event"], told.get("subject", "")] += 1
            except (ValueError, KeyError):
                broken += 1
        missing = 0
        for event, due in (("sign_in", signed_in), ("sign_out", signed_out)):
            missing += sum(max(0, count - written[event, subject]) for subject, count in due.items())
        return sum(signed_in.values()) + sum(signed_out.values()), missing, broken

    # -- the lines -------------------------------------------------------------------------------------------------------------

    def table(self, signed_in: Counter[str], signed_out: Counter[str]) -> str:
        world, counts = self.world, self.world.counts
        lines: list[str] = []

        def row(figure: str, met: bool | None, measured: str, target: str) -> None:
            word = {True: "met", False: "MISSED", None: "not judged"}[met]
            lines.append(f"{figure:<4} {word:<10} {measured}; target: {target}")

        seconds = max(0.001, self.mixed_to[0] - self.mixed_from[0])
        mixed = self.mixed_to[1] - self.mixed_from[1]
        share = world.hostile / max(1, mixed)
        wrong = counts["wrong allow"] + counts["lost sign-out"]
        row(
            "R1",
            wrong == 0,
            f"{wrong} wrong allows in {world.answers} answers, {mixed} of them mixed with {share:.0%} hostile, {self.shapes} smuggling shapes, {self.slow} slow heads; {counts['past the absolute limit']} sessions asked about past their absolute limit, {counts['past the idle limit']} past the idle one",
            "0 (in 5 million a night)",
        )
        crossed = counts["cross-user"] + counts["ticket at the application"]
        row(
            "R2",
            crossed == 0,
            f"{crossed} answers for another person, {self.again} requests asked again on another connection, {self.impatient} given up before the answer",
            "0",
        )
        steady = counts["wrong deny"] + counts["failed"] + counts["wrong page"]
        steady += self.sign_ins["failed"] + self.sign_outs["failed"]
        in_fault = counts["failed in a fault"] + counts["wrong deny in a fault"]
        part = in_fault / max(1, world.in_fault)
        row(
            "R3",
            steady == 0 and part < 0.0001,
            f"{steady} wrong denies or failures in steady state, {in_fault} of {world.in_fault} under faults ({part:.4%}); {counts['wrong deny in a fault']} of these a denial",
            "0, and < 0.01 % under a fault",
        )
        p50, p99, p999 = (quantile(self.calm, each) * 1000 for each in (0.5, 0.99, 0.999))
        row(
            "R4",
            p50 <= 1 and p99 <= 5 and p999 <= 20,
            f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, p99.9 {p999:.2f} ms of {len(self.calm)} at 2 000/s, generator on the same two cores",
            "1, 5 and 20 ms",
        )
        away = quantile(self.psc_away, 0.99) * 1000
        row(
            "R5",
            away <= 2 * max(p99, 5)
            and self.page[0] == 503
            and self.page[1] <= 3
            and self.recovered <= 5
            and self.probes[0] <= self.probes[1] / 5 + 2,  # the two that find out
            f"PSC away: p99 {away:.2f} ms, page {self.page[0]} after {self.page[1]:.2f} s, sign-ins {self.recovered:.2f} s after its return, {self.probes[0]} requests to it in {self.probes[1]:.0f} s (4 h by the tests' clock)",
            "p99 ≤ 2 × R4, 503 ≤ 3 s, ≤ 5 s, ≤ 1 in 5 s",
        )
        times, asked, failed = self.restarted
        to_end, to_start = (max((each[part] for each in self.restarts), default=0.0) for part in (0, 1))
        busy = any(each[2] for each in self.restarts)
        row(
            "R7",
            None if failed and busy else failed == 0 and asked > 0,
            f"{failed} of {asked} requests failed in {times} restart(s) at 2 000/s through nginx, and {counts['restart'] - times} more under full load; ended in {to_end:.2f} s, ready {to_start:.2f} s later at most{', starved by others' if busy else ''}",
            "0",
        )
        slowest = max(self.crashes, default=0.0)
        row(
            "R8",
            slowest <= 2 if self.crashes else None,
            f"ready {slowest:.2f} s after a start at the latest, {len(self.crashes)} kill -9 under full load on two cores",
            "≤ 2 s",
        )
        row(
            "R9",
            counts["lost sign-out"] == 0,
            f"{counts['lost sign-out']} lost of {self.sign_outs['done']} sign-outs ({self.sign_outs['excused']} tried again in a fault, {self.sign_outs['failed']} without one), {world.kinds['ended ticket']} later tries with ended tickets, {len(world.ended)} asked once more at the end",
            "0, at once",
        )
        peak = max((each[1] for life in self.lives for each in life.seen), default=0.0)
        most = max((each[4] for life in self.lives for each in life.seen), default=0)
        sent, grown = self.bogus
        bound = 120 + most * 4 / 1024
        row(
            "R10",
            peak <= bound and grown < 5,
            f"at most {peak:.1f} MiB with {most} people inside; {sent} forged tickets added {grown:.1f} MiB",
            f"≤ {bound:.1f} MiB, < 5 MiB",
        )
        late, sent, took = self.flood
        ratio = quantile(late, 0.99) / max(0.001, quantile(self.calm, 0.99))
        rate = sent / max(0.001, took)
        row(
            "R11",
            (True if ratio <= 3 else None if rate < 20_000 else False) if rate >= 20_000 or ratio <= 3 else None,
            f"p99 {quantile(late, 0.99) * 1000:.2f} ms, {ratio:.1f} × the calm one, beside {rate:.0f} strangers/s from the same two cores",
            "≤ 3 × beside 20 000/s",
        )
        longest = max(self.lives, key=lambda life: life.seconds, default=None)
        tracebacks, unseen, first = self._log()
        if longest is not None and longest.seen:
            grew, over = longest.slope()
            half = longest.seen[len(longest.seen) // 2 :]
            files = (max(each[2] for each in half), half[-1][2])
            threads = max(each[3] for each in half)
            flat = files[0] <= files[1] + 20 and threads <= self.began_with[1] + 4 and unseen == 0
            judged = None if over < 3600 else grew / over * 86400 < 1
            row(
                "R13",
                False if not flat else judged,
                f"{grew:+.2f} MiB in the last {over:.0f} s of the longest life ({longest.seconds:.0f} s); descriptors at most {files[0]}, {files[1]} at the end; {threads} threads; {unseen} tasks with an exception nobody saw, {tracebacks} tracebacks",
                "< 1 MiB/day (judged from 2 h on), flat, 0",
            )
        entered, refused = self.clock["entered"], self.clock["refused"]
        row(
            "R14",
            refused == 0 if entered + refused else None,
            f"{entered} of {entered + refused} sign-ins with PSC's clock 45 s off",
            "≤ 60 s tolerated",
        )
        due, missing, broken = self._trail(signed_in, signed_out)
        secrets = self._secrets()
        row(
            "R15",
            missing == 0 and broken == 0 and secrets == 0,
            f"{missing} of {due} sign-ins and sign-outs missing in the trail, {broken} lines not readable; {secrets} of {len(world.secrets) + 1} secrets in a log",
            "0, 0, 0",
        )
        events = ", ".join(
            f"{name.removeprefix('fault ')} {count}"
            for name, count in sorted(counts.items())
            if name.startswith(("fault ", "failed: ", "psc", "reload", "restart"))
        )
        lines.append(
            f"     {mixed} requests in {seconds:.0f} s ({mixed / seconds:.0f}/s); sign-ins {dict(self.sign_ins)}; {events}; load {os.getloadavg()[0]:.1f}"
        )
        lines += [f"  ! {each}" for each in (*world.examples, *self.notes)]
        if first:
            lines.append(f"  ! in the log: {first}")
        return "\n".join(lines)
