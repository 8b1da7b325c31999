"""The command line: arguments are parsed, errors shown; nothing is computed here."""

import os

# Before torch is imported: OpenMP's threads that wait for work otherwise spin on the processor
# that another program needs, which makes a step several times slower on a busy machine.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
