"""Every way to constrain a critic, side by side: ``python -m examples.study``."""
