"""OpenAI's chat completions over any engine, for clients that don't stream speech."""
