"""What is wrong with a dataset: found before anything is trained, with remedies."""

from medseg.checking.findings import Checked, Finding, check_dataset
from medseg.checking.fix import write_repaired
from medseg.checking.output import write_check

__all__ = ["Checked", "Finding", "check_dataset", "write_check", "write_repaired"]
