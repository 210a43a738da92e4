"""How well turns are told apart: scenes with a known truth, ours and the rivals' rules on them."""
