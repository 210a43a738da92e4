"""Conversations with an audio-language model; knows no device."""
