"""Programs that use specjax: each runs by ``python -m examples.<name>``."""
