"""How long a turn waits for its first token, and a token for the next, on the CPU."""

from assistant.engines.transformers.library_logs import leave_out_torchao

leave_out_torchao()
