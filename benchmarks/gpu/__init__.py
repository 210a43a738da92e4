"""What one accelerator does for one conversation and for many."""
