"""What a kernel does to an input: `Matrix`, `Conv`, and maps of a user's own."""
