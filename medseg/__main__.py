"""`python -m medseg COMMAND …` is the same as `medseg COMMAND …`."""

from medseg.cli.main import main

main()
