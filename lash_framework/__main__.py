"""`python -m lash_framework`."""

import sys

from lash_framework.cli import main

if __name__ == "__main__":
    sys.exit(main())
