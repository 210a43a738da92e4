"""How long a turn waits for its first token, and a token for the next, on the CPU."""
