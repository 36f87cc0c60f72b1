"""`python -m lapwing.cli`, as processes of Lapwing start each other."""

import sys

from lapwing.cli import main

if __name__ == "__main__":
    sys.exit(main())
