"""`python -m lapwing`, and what torchrun starts: `torchrun --nproc-per-node 2 -m -- lapwing train …`."""

import sys

from lapwing.cli import main

if __name__ == "__main__":
    sys.exit(main())
