"""What engines have in common whose model is behind servers."""
