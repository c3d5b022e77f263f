"""One kernel: the power step, sigma, the rescaling, and their state."""
