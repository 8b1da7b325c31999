"""Train a network: `python scripts/train.py [group=option] [key=value] ...`."""

import sys

from medseg.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
