"""The long run: people come and go, three requests in ten are hostile, things break, and every answer is judged (world.py).

In order: everybody arrives; a calm stretch at 2 000 requests/s; the same with PSC away; the same beside a flood; restarts under the same load through nginx; then as many
requests as two cores carry, half of them through nginx, under faults in turn, and undisturbed in its second half; at the end every ended ticket and every live one is
asked about once more. Prints a line per figure of the reliability targets. Refuses to end well (exit 1) after a wrong allow, a cross-user answer or a lost sign-out.
"""

import asyncio
import contextlib
import datetime
import gc
import json
import os
import platform
import random
import re
import resource
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from soak.figures import Figures
from soak.hospital import ABSOLUTE, IDLE, Hospital
from soak.people import Unlucky, Visitor, sign_in, sign_out
from soak.wire import Ask, Paced, Pipe, Place, said
from soak.world import ALLOW, CLASSES, OUT, World, smuggling

RATE = 2000
FLOOD = 20_000
PEOPLE = Path(__file__).parents[2] / "forward_auth" / "simulator" / "people.json"  # a data file
NOT_THESE = ("agent-sans-profession",)  # nothing wrong with it: PSC says too little to know what it may


def professionals(count: int) -> list[Visitor]:
    """So many browsers, of the simulator's people in turn."""
    found = []
    for name, person in json.loads(PEOPLE.read_text("utf-8")).items():
        told = person["userinfo"]
        exercises = told.get("SubjectRefPro", {}).get("exercices", [])
        codes = frozenset(each["codeProfession"] for each in exercises if each.get("codeProfession"))
        if name not in NOT_THESE:
            found.append((name, told["SubjectNameID"], codes))
    return [Visitor(*found[number % len(found)]) for number in range(count)]


class LongRun:
    """One run: its people, its connections, its faults. `requests` 0: by time."""

    def __init__(self, hospital: Hospital, seconds: float, requests: int, people: int, seed: int) -> None:
        self.hospital = hospital
        self.seconds = seconds
        self.requests = requests
        self.chance = random.Random(seed)
        self.world = World(professionals(people), self.chance, time.monotonic)
        self.figures = Figures(hospital, self.world)
        self.over = False
        self.broken = 0  # faults so far
        self.calm = False  # no fault any more: the second half
        self.trouble_signing_in = ""  # why a sign-in may fail now, and until when it could
        self.trouble_end = 0.0
        self.signed_in: Counter[str] = Counter()  # acknowledged, by person
        self.signed_out: Counter[str] = Counter()
        self.pipes: list[Pipe] = []
        self.short = min(10.0, max(1.2, requests / 20_000 if requests else seconds / 15))

    # -- people ----------------------------------------------------------------------------------------------------------------

    def excused(self, began: float) -> bool:
        """Whether what began then and failed now met a fault on its way."""
        world = self.world
        return bool(self.trouble_signing_in or world.fault) or began < max(self.trouble_end, world.fault_end)

    async def arrive(self, visitor: Visitor) -> bool:
        visitor.busy = True
        figures = self.figures
        began = time.monotonic()
        try:
            self.signed_in[visitor.subject] += await sign_in(self.hospital, visitor)
        except Unlucky as error:
            excused = self.excused(began)
            figures.sign_ins["excused" if excused else "failed"] += 1
            if not excused:
                figures.note(f"sign-in failed: {error}")
            return False
        else:
            figures.sign_ins["done"] += 1
            visitor.ends = (began - 1 + ABSOLUTE, time.monotonic() + 1 + ABSOLUTE)
            self.world.entered(visitor)
            return True
        finally:
            visitor.busy = False

    async def leave(self, visitor: Visitor) -> None:
        """Until it is acknowledged, however often that takes."""
        began = time.monotonic()
        visitor.busy = True
        self.world.leaves(visitor)
        try:
            while True:
                try:
                    if await sign_out(self.hospital, visitor):
                        self.signed_out[visitor.subject] += 1
                except Unlucky as error:
                    excused = self.excused(began)
                    self.figures.sign_outs["excused" if excused else "failed"] += 1
                    if not excused:
                        self.figures.note(f"sign-out failed: {error}")
                    await asyncio.sleep(0.2)
                else:
                    break
            self.world.left(visitor)
            self.figures.sign_outs["done"] += 1
        finally:
            visitor.busy = False

    async def retire(self, visitor: Visitor, until: float, name: str) -> None:
        """Ask nothing in this session any more until a limit of it is over for certain; then it is, and never comes to life again."""
        visitor.busy = True
        self.world.inside.remove(visitor)
        while time.monotonic() < until:
            if self.over:
                return
            await asyncio.sleep(0.5)
        ticket = visitor.tickets["dossier"].encode()
        ask = self.world._from("ended", name, False, "dossier", cookie=b"__Host-psc=" + ticket)
        status = 0
        while not status and not self.over:
            with contextlib.suppress(OSError):
                status = await said_once(self.hospital.inner, ask)
        if CLASSES.get(status) is ALLOW:
            self.world.counts["wrong allow"] += 1
            self.figures.note(f"wrong allow: {name}: {visitor.name}")
        self.world.counts[name] += 1
        self.world.over(visitor)
        visitor.busy = False

    async def growing_old(self) -> None:
        """Whoever nears the absolute limit is left alone until it is over; now and then somebody does nothing for longer than the idle limit."""
        tasks: list[asyncio.Task[None]] = []
        rested = time.monotonic()
        while not self.over:
            await asyncio.sleep(0.5)
            now = time.monotonic()
            free = [each for each in self.world.inside if not each.busy and each.state == "in"]
            for visitor in free:
                if now > visitor.ends[0] - 8:
                    tasks.append(asyncio.create_task(self.retire(visitor, visitor.ends[1], "past the absolute limit")))
            young = [each for each in free if now < each.ends[0] - 60]
            if young and now > rested + 5 and len(self.world.inside) > len(self.world.visitors) // 3:
                rested = now  # eight seconds: what is under way has been answered by then
                tasks.append(
                    asyncio.create_task(self.retire(self.chance.choice(young), now + IDLE + 8, "past the idle limit"))
                )
        await asyncio.gather(*tasks)

    async def stay_awake(self) -> None:
        """Until the traffic begins: a check of everybody who is in, every few seconds."""
        while True:
            for visitor in list(self.world.inside):
                await said_once(self.hospital.inner, self.world.own(visitor, False))
            await asyncio.sleep(3)

    async def coming_and_going(self, pause: float) -> None:
        """One after the other, somebody comes or goes."""
        while not self.over:
            visitor = self.world.visitors[int(self.chance.random() * len(self.world.visitors))]
            if not visitor.busy:
                if visitor.state == "out":
                    await self.arrive(visitor)
                elif len(self.world.inside) > len(self.world.visitors) // 2:
                    await self.leave(visitor)
            await asyncio.sleep(pause * (0.5 + self.chance.random()))

    # -- traffic ---------------------------------------------------------------------------------------------------------------

    def _paced(self, proxied: bool, count: int) -> Paced:
        place = ("127.0.0.1", self.hospital.front) if proxied else self.hospital.inner
        inside = self.world.inside

        def make() -> Ask:
            return self.world.own(inside[int(self.chance.random() * len(inside))], proxied)

        return Paced(place, count, RATE, make, self.world.heard)

    def drive(self) -> None:
        """Connections that ask again as soon as they are answered."""
        places = (
            [(self.hospital.inner, False)] * 8
            + [(self.hospital.inner_tcp, False)] * 8
            + [(("127.0.0.1", self.hospital.front), True)] * 24
        )
        for place, proxied in places:
            pipe = Pipe(
                place, lambda _, proxied=proxied: None if self.over else self.world.ask(proxied), self.world.heard
            )
            self.pipes.append(pipe)
            pipe.start()

    async def smuggle(self) -> None:
        """Hostile shapes on connections of their own; what hides behind a stranger's request is never answered."""
        fronts = (self.hospital.inner, self.hospital.inner_tcp, ("127.0.0.1", self.hospital.front))
        while not self.over:
            inside = [each for each in self.world.inside if each.state == "in"]
            if inside:
                line = self.chance.choice(inside).heads["dossier"][0]
                place = self.chance.choice(fronts)
                for shape in smuggling(line, proxied=place is fronts[2]):
                    if self.over:
                        return
                    with contextlib.suppress(OSError):
                        got = await said(place, shape, 0.3)
                        self.figures.shapes += 1
                        if b" 200 " in got or b"X-PSC-Subject: 8" in got:
                            self.world.counts["wrong allow"] += 1
                            self.figures.note(f"wrong allow: smuggling {shape[-300:]!r}: {got[:200]!r}")
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)

    async def be_impatient(self) -> None:
        """People who go away before they are answered, some in the middle of their head: nobody else hears what was meant for them (R2)."""
        while not self.over:
            inside = self.world.inside
            if inside:
                proxied = self.chance.random() < 0.5
                place: Place = ("127.0.0.1", self.hospital.front) if proxied else self.hospital.inner
                ask = self.world.own(self.chance.choice(inside), proxied)
                with contextlib.suppress(OSError):
                    if isinstance(place, str):
                        _, writer = await asyncio.open_unix_connection(place)
                    else:
                        _, writer = await asyncio.open_connection(*place)
                    writer.write(
                        ask.data[: self.chance.choice((40, len(ask.data), len(ask.data)))]
                        * self.chance.choice((1, 1, 5))
                    )
                    await asyncio.sleep(0)
                    writer.transport.abort()
                    self.figures.impatient += 1
            await asyncio.sleep(0.02)

    async def be_slow(self) -> None:
        """A head that comes byte by byte, again and again: the door ends it in its time and holds nothing for it."""
        head = b"GET /auth/nginx HTTP/1.1\r\nHost: inner\r\nX-Slow: " + b"z" * 4000
        while not self.over:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_unix_connection(self.hospital.inner)
                try:
                    for number in range(len(head)):
                        if self.over or reader.at_eof() or writer.transport.is_closing():
                            break
                        writer.write(head[number : number + 1])
                        await asyncio.sleep(0.5)
                    self.figures.slow += 1
                finally:
                    writer.close()
            await asyncio.sleep(0.2)

    # -- faults ----------------------------------------------------------------------------------------------------------------

    async def fault_crash(self) -> None:
        with self.world.trouble("kill -9"):
            await asyncio.to_thread(self.hospital.crash)
            self.figures.crashes.append(await asyncio.to_thread(self.hospital.wait_ready))
        self.figures.new_life()

    async def fault_restart(self) -> None:
        """Not a fault: nothing may fail."""
        self.world.counts["restart"] += 1
        began = time.monotonic()
        await asyncio.to_thread(self.hospital.restart)
        ended = time.monotonic() - began
        started = await asyncio.to_thread(self.hospital.wait_ready)
        self.figures.restarts.append((ended, started, self.hospital.starved(started)))
        self.figures.new_life()

    async def fault_reload(self) -> None:
        """Other rules, and back. Not a fault either; between the signal and the log's word both are right."""
        self.world.counts["reload"] += 2
        for rules in ("narrow", "wide"):
            before = self.hospital.reloads()
            self.world.rules = ("wide", "narrow")
            self.hospital.reload(rules)
            end = time.monotonic() + 10
            while await asyncio.to_thread(self.hospital.reloads) == before:
                if time.monotonic() > end:
                    self.figures.note(f"a reload to {rules} was not told in 10 s")
                    return
                await asyncio.sleep(0.02)
            self.world.rules = (rules,)
            await asyncio.sleep(1)

    async def fault_disk(self) -> None:
        """No file of the process may grow."""
        pid = self.hospital.process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        with self.world.trouble("disk full"):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, hard))
            await asyncio.sleep(1.5)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
            await asyncio.sleep(1.5)  # the trail tries again once a second

    async def fault_files(self) -> None:
        """No file descriptor is left, and a crowd comes."""
        pid = self.hospital.process.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        with self.world.trouble("no descriptor left"):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (self.hospital.files() + 4, hard))
            crowd = []
            for _ in range(50):
                with contextlib.suppress(OSError):
                    crowd.append((await asyncio.open_connection(*self.hospital.inner_tcp))[1])
            await asyncio.sleep(1)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
            for writer in crowd:
                writer.close()
            await asyncio.sleep(0.5)

    async def fault_store(self) -> None:
        """Somebody else writes into the store for a second and a half."""

        def hold() -> None:
            held = sqlite3.connect(self.hospital.folder / "logins.db", timeout=5, isolation_level=None)
            with contextlib.closing(held):
                held.execute("BEGIN IMMEDIATE")
                time.sleep(1.5)
                held.execute("ROLLBACK")

        with self.world.trouble("slow store"):
            await asyncio.to_thread(hold)

    async def fault_psc(self) -> None:
        """PSC misbehaves: no check may notice."""
        name, value = self.chance.choice(
            [
                ("code.oauth_error", "invalid_grant"),
                ("userinfo.forbidden", None),
                ("token.slow", 1),
                ("userinfo.other_person", None),
            ]
        )
        self.world.counts["psc fault"] += 1
        self.trouble_signing_in = name
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self.hospital.psc, "POST", "/faults", {"name": name, "value": value})
            await asyncio.sleep(1.5)
            await asyncio.to_thread(self.hospital.psc, "DELETE", "/faults")
        await asyncio.sleep(1)
        self.trouble_signing_in, self.trouble_end = "", time.monotonic()

    async def fault_clock(self) -> None:
        """PSC's clock is 45 s off: people sign in as ever (R14)."""
        offset = self.chance.choice((-45, 45))
        self.world.counts["psc clock off"] += 1
        visitor = Visitor("docteur-dupont", "899700000001", frozenset({"10"}))
        await asyncio.to_thread(self.hospital.psc, "POST", "/clock", {"offset": offset})
        try:
            await sign_in(self.hospital, visitor)
        except Unlucky as error:
            self.figures.clock["refused"] += 1
            self.figures.note(f"clock {offset:+} s: {error}")
        else:
            self.figures.clock["entered"] += 1
            self.signed_in[visitor.subject] += 1
        await asyncio.to_thread(self.hospital.psc, "POST", "/clock", {"offset": 0})

    async def faults(self, quiet: float) -> None:
        """One after the other, a quiet time between; the first two in every run, however short."""
        bag: list[Callable[[], Awaitable[None]]] = []
        every = [
            self.fault_reload, self.fault_crash, self.fault_disk, self.fault_store, self.fault_files, self.fault_psc,
            self.fault_restart, self.fault_clock,
        ]  # fmt: skip
        bag = every[::-1]
        while not self.calm:
            await asyncio.sleep(quiet * (0.5 + self.chance.random()))
            if self.calm:
                return
            if not bag:
                bag = self.chance.sample(every, len(every))
            await bag.pop()()
            self.broken += 1

    async def watch(self) -> None:
        """Memory, descriptors and threads, once a second."""
        while not self.over:
            with contextlib.suppress(OSError):
                self.figures.look(len(self.world.inside))
            await asyncio.sleep(1)

    # -- the stretches ---------------------------------------------------------------------------------------------------------

    async def everybody_arrives(self) -> None:
        waiting = list(self.world.visitors)

        async def usher() -> None:
            while waiting:
                visitor = waiting.pop()
                while not await self.arrive(visitor):
                    await asyncio.sleep(0.1)

        await asyncio.gather(*(usher() for _ in range(3)))

    async def at_a_steady_rate(self) -> None:
        """R4, R5, R11, R10."""
        figures, seconds = self.figures, self.short
        calm = self._paced(False, 64)
        await calm.run(seconds)
        figures.calm = calm.late
        await asyncio.to_thread(self.hospital.psc_stop)
        self.trouble_signing_in = "PSC away"
        asked = await self.asked_of_psc()
        away = self._paced(False, 64)
        running = asyncio.create_task(away.run(seconds))
        began = time.monotonic()
        front = ("127.0.0.1", self.hospital.front)
        start = (
            b"GET /psc/start?to=https%3A%2F%2Fdossier.hopital.example%2F HTTP/1.1\r\n"
            b"Host: auth.hopital.example\r\nConnection: close\r\n\r\n"
        )
        page = await said(front, start, 15)
        figures.page = (int(page[9:12] or b"0"), time.monotonic() - began)
        await running
        figures.psc_away = away.late
        figures.probes = (await self.asked_of_psc() - asked, time.monotonic() - began)
        await asyncio.to_thread(self.hospital.psc_start)
        began = time.monotonic()
        while not (await said(front, start, 15)).startswith(b"HTTP/1.1 303") and time.monotonic() < began + 20:
            await asyncio.sleep(0.05)
        figures.recovered = time.monotonic() - began
        self.trouble_signing_in, self.trouble_end = "", time.monotonic()
        await self._flood(seconds)

    async def asked_of_psc(self) -> int:
        """Requests to PSC so far, by the program's own count."""
        got = await said(self.hospital.inner, b"GET /metrics HTTP/1.1\r\nHost: inner\r\nConnection: close\r\n\r\n")
        lines = [line for line in got.splitlines() if line.startswith(b"psc_forward_auth_psc_requests_total{")]
        return int(sum(float(line.rpartition(b" ")[2]) for line in lines))

    async def _flood(self, seconds: float) -> None:
        """Strangers with another forged ticket each time, on 16 connections, beside the steady rate; then their memory is looked at."""
        world = self.world
        before, began = self.hospital.resident(), time.monotonic()
        sent = 0
        over = False

        def more(_: Pipe) -> Ask | None:
            nonlocal sent
            if over:
                return None
            sent += 1
            return world.bogus()

        count = 16
        self.world.hostile -= world.hostile  # the flood is no part of the mix
        gates = [Pipe(self.hospital.inner, more, world.heard) for _ in range(count)]
        beside = self._paced(False, 64)
        running = asyncio.create_task(beside.run(seconds))
        for pipe in gates:
            pipe.start()
        await running
        over = True
        self.figures.flood = (beside.late, sent, time.monotonic() - began)
        await asyncio.sleep(0.3)
        for pipe in gates:
            pipe.close()
        self.figures.bogus = (sent, self.hospital.resident() - before)

    async def restarts(self) -> None:
        """R7: at 2 000 requests/s through nginx."""
        seen: Counter[str] = Counter()
        load = self._paced(True, 400)
        judged = load._heard

        def heard(ask: Ask, status: int, head: bytes, body: bytes) -> None:
            seen[CLASSES.get(status, "fail")] += 1
            judged(ask, status, head, body)

        load._heard = heard
        times = 1 if self.short < 5 else 4
        running = asyncio.create_task(load.run(times * 3.0))
        for _ in range(times):
            await asyncio.sleep(0.5)
            await self.fault_restart()
        await running
        self.figures.restarted = (times, sum(seen.values()), sum(seen.values()) - seen[ALLOW] - seen["no"])
        for pipe in load.pipes:
            self.figures.again += pipe.again

    async def mixed(self) -> None:
        """The run itself."""
        world = self.world
        began, first = time.monotonic(), world.answers
        self.figures.mixed_from = (began, first)
        world.hostile = 0
        rest = max(4.0, self.seconds - (began - self.began)) if not self.requests else 0.0
        short = bool(rest and rest < 60) or 0 < self.requests < 300_000
        pause = 0.3 if short else 0.6
        tasks = [asyncio.create_task(self.coming_and_going(pause)) for _ in range(3)]
        tasks += [asyncio.create_task(self.be_slow()) for _ in range(4)]
        tasks += [
            asyncio.create_task(each)
            for each in (self.smuggle(), self.be_impatient(), self.watch(), self.growing_old())
        ]
        breaking = asyncio.create_task(self.faults(0.5 if short else 3.0))
        self.figures.new_life()
        self.drive()
        told = time.monotonic()

        def share() -> float:
            by_count = (world.answers - first) / self.requests if self.requests else 0.0
            return by_count if self.requests else (time.monotonic() - began) / rest

        while share() < 1 or not self.calm:
            await asyncio.sleep(0.1)
            for task in (*tasks, breaking):
                if task.done() and not task.cancelled() and task.exception() is not None:
                    raise task.exception()  # type: ignore[misc]
            if share() >= 0.6 and self.broken >= 2:
                self.calm = True
            if time.monotonic() > told + 30:
                told = time.monotonic()
                print(f"… {self.figures.progress()}", flush=True)
        await breaking
        self.over = True
        self.figures.mixed_to = (time.monotonic(), world.answers)
        await asyncio.gather(*tasks)
        for pipe in self.pipes:
            self.figures.again += pipe.again
            pipe.close()

    async def last_word(self) -> None:
        """Every ticket of an ended session is asked about once more, and every live one; nothing is on the way any more."""
        world = self.world
        for app, ticket in list(world.ended):
            got = await said_once(
                self.hospital.inner,
                world._from("ended", "last word", False, app, cookie=b"__Host-psc=" + ticket.encode()),
            )
            if CLASSES.get(got) is not OUT:
                world.counts["lost sign-out" if CLASSES.get(got) is ALLOW else "failed"] += 1
                self.figures.note(f"at the end, an ended ticket: {got}")
        for visitor in world.inside:
            ask = world.own(visitor, False)
            got = await said_once(self.hospital.inner, ask)
            if got not in (200, 403):
                world.counts["wrong deny"] += 1
                self.figures.note(f"at the end, {visitor.name} who is in: {got}")

    async def live(self) -> int:
        self.began = time.monotonic()
        gc.freeze()
        self.figures.began_with = (self.hospital.files(), self.hospital.threads())
        awake = asyncio.create_task(self.stay_awake())
        await self.everybody_arrives()
        awake.cancel()
        await self.at_a_steady_rate()
        await self.restarts()
        await self.mixed()
        await self.last_word()
        self.hospital.stop()  # so that the trail is written to its end
        print(self.figures.table(self.signed_in, self.signed_out), flush=True)
        bad = sum(
            self.world.counts[each]
            for each in ("wrong allow", "cross-user", "lost sign-out", "ticket at the application")
        )
        return 1 if bad else 0


async def said_once(place: str, ask: Ask) -> int:
    """The status of one request on a connection of its own."""
    data = ask.data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    got = await said(place, data)
    return int(got[9:12] or b"0")


async def _live(hospital: Hospital, seconds: float, requests: int, people: int, seed: int) -> int:
    return await LongRun(hospital, seconds, requests, people, seed).live()


def run(folder: Path, seconds: float, requests: int, people: int, seed: int) -> int:
    """-> exit code."""
    length = f"{requests} requests" if requests else f"{seconds:.0f} s"
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    print(
        f"soak of {length}, {people} people, seed {seed}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC: {model[1] if model else platform.machine()},"
        f" {os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}",
        flush=True,
    )
    with Hospital(folder) as hospital, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_live(hospital, seconds, requests, people, seed))
