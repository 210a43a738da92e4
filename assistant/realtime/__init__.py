"""The OpenAI Realtime protocol (GA, text output) and the transports that carry it."""
