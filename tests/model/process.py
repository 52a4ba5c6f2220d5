"""The real service as a process of its own that goes by a given clock, so that time can be turned and the process killed.

    python tests/model/process.py CONFIG CLOCK

CLOCK: a file of eight bytes, Unix seconds as a double, read anew each time. On standard input: `reload`, `settle` (what waits to be written is), `stop`;
the end of the input stops it too. Each is answered by one line of JSON. Refuses: nothing of its own; it composes what cli.py composes.
"""

import asyncio
import json
import mmap
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[2]))

from forward_auth.config import load
from forward_auth.service import Service


def clock_of(path: Path) -> Callable[[], float]:
    with path.open("rb") as file:
        seen = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    return lambda: float(struct.unpack("d", seen[:8])[0])


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


async def main(config: Path, clock: Path) -> None:
    service = Service(load(config, {}), clock=clock_of(clock), node="witness")
    await service.start()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    say(inner=service.inner_addresses[0], outer=service.outer_address)
    while (line := (await reader.readline()).strip()) not in (b"", b"stop"):
        if line == b"reload":
            await service.reload(load(config, {}))
        elif line == b"settle":
            await service.sessions._write_touches()
        say(done=line.decode())
    await service.stop(drain=0.2)


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
