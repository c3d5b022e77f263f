"""What is reported of kernels and never carried: metrics of a step, reports.

`specjax.metrics` is for every step; `specjax.report` takes an SVD of each kernel.
"""

from specjax.diagnostics._metrics import metrics
from specjax.diagnostics._report import Report, report

__all__ = ["Report", "metrics", "report"]
