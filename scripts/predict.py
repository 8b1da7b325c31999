"""Segment volumes: `python scripts/predict.py -m RUN -i VOLUME_OR_FOLDER ... -o FOLDER`."""

import sys

from medseg.cli.predict import main

if __name__ == "__main__":
    sys.exit(main())
