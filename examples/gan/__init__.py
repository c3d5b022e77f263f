"""An SN-GAN on a CPU: ``python -m examples.gan``."""
