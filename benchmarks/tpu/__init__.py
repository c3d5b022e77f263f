"""A step on TPUs, with and without SN, as the TPU compiler makes it: no TPU needed."""
