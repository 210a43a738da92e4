"""Qwen-Audio by DashScope's own API."""
