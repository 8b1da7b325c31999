"""Records in, one page out: what was compared, at what cost, how well, and what is not there.

The room reads `record.json`, `ablation.json` and the volumes that they name, and imports no
deep-learning library, so that results can be read on any machine.
"""

from medseg.report.document import Report, write_report
from medseg.report.reference import Wish

__all__ = ["Report", "Wish", "write_report"]
