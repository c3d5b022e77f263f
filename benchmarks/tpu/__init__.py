"""What a step costs on TPUs, with and without SN, by the TPU compiler: no TPU needed."""
