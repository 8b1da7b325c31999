"""Compares runs and writes one page about them.

Usage: python scripts/report.py runs/ [more/ ...] [-o report.html]
"""

import sys

from medseg.cli.report import main

sys.exit(main())
