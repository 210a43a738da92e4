"""Models behind servers that speak OpenAI's chat completions."""
