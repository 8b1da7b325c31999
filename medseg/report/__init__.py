"""Records in, one page out: what was compared, at what cost, how well, and what is not there.

The room reads `record.json` files and nothing else, and imports no deep-learning library, so
that results can be read on any machine.
"""

from medseg.report.document import Report, write_report

__all__ = ["Report", "write_report"]
