"""`make coverage`: how much of what decides is run by its own tests, file by file, branches included.

For: the hall and `psc/`, as tests/test_rooms.py draws them. Refuses: less than 95 % in any file of them; a sum would hide one. What it reads is what
`coverage run` wrote just before.

    python -m coverage run -m pytest tests/hall … ; python tests/covered.py
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Final

import coverage

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from test_rooms import FILES, room_of  # noqa: E402

ENOUGH: Final = 95


def main() -> int:
    read = coverage.Coverage()
    read.load()
    with tempfile.TemporaryDirectory() as place:
        read.json_report(morfs=[str(path) for path in FILES.values()], outfile=f"{place}/found.json")
        found = json.loads(Path(place, "found.json").read_text())["files"]
    below = 0
    for module, path in FILES.items():
        if room_of(module) in ("hall", "psc"):
            name = str(path.relative_to(Path.cwd()))
            percent = found[name]["summary"]["percent_covered"]
            below += percent < ENOUGH
            print(f"{percent:6.1f} %  {name}{'  is too little' if percent < ENOUGH else ''}")
    print(f"every file of the hall and of psc/ has {ENOUGH} % or more" if not below else f"{below} below {ENOUGH} %")
    return int(bool(below))


if __name__ == "__main__":
    sys.exit(main())
