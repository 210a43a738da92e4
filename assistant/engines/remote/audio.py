"""Audio as it goes over the wire. Pure."""

from __future__ import annotations

import base64
import io
import wave

from assistant.prompt import AudioPart, Prompt
from audio_io.pcm import SAMPLE_RATE_HZ


class EncodedAudio:
    """The audio of one conversation in base64. Each is encoded once, and kept."""

    def __init__(self) -> None:
        self._encoded: dict[str, str] = {}
        """Base64 of wav files, by the audio's digest."""

    def base64(self, part: AudioPart) -> str:
        """A wav file with `part`."""
        if part.digest not in self._encoded:
            self._encoded[part.digest] = base64.b64encode(wav(part)).decode()
        return self._encoded[part.digest]

    def keep_only(self, prompt: Prompt) -> None:
        """Let go of audio that `prompt` no longer holds."""
        kept = {
            part.digest
            for message in prompt.messages
            for part in message.parts
            if isinstance(part, AudioPart)
        }
        self._encoded = {key: data for key, data in self._encoded.items() if key in kept}


def wav(part: AudioPart) -> bytes:
    """The audio as a wav file: 16 bits, 16 kHz, mono."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SAMPLE_RATE_HZ)
        writer.writeframes(part.samples.astype("<i2", copy=False).tobytes())
    return file.getvalue()
