"""`python -m forward_auth` is the command `psc-forward-auth`."""

import sys

from forward_auth.cli import main

if __name__ == "__main__":
    sys.exit(main())
