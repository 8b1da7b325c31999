"""From records to one page: what was compared, at what cost, how well, and what is missing.

The package reads `record.json`, `ablation.json` and the volumes that they name, and imports no
deep-learning library, so that results can be read on any machine.
"""

from medseg.report.write import Report, write_report

__all__ = ["Report", "write_report"]
