"""What changes a compiled program and no number."""
