"""What one accelerator does for one conversation and for many."""

from assistant.engines.transformers.library_logs import leave_out_torchao

leave_out_torchao()
