"""`python -m alphanas`: the command line."""

import sys

from alphanas.cli import main

if __name__ == "__main__":
    sys.exit(main())
