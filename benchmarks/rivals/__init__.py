"""A training step of one network in every library that normalizes: ours and theirs."""
