"""What can go wrong with sound, by the party at fault.

AudioError
├── AudioFormatError   the bytes or the format are not what was promised
├── DeviceError        this machine's microphone is missing, refused or gone
├── PeerError          the other end of a WebRTC connection sent something unusable
└── UnreachableError   this machine has no address or no port for a WebRTC connection
"""


class AudioError(Exception):
    """Base of every error that audio_io raises; its text is fit to be shown to a person."""


class AudioFormatError(AudioError):
    """Audio that can't be read as what it was said to be; the stream may go on with good audio."""


class DeviceError(AudioError):
    """A sound device can't be used, or not any longer; the text says what would help."""


class PeerError(AudioError):
    """A WebRTC peer's offer can't be answered; nothing was opened for it."""


class UnreachableError(AudioError):
    """A WebRTC peer couldn't reach this machine; nothing was opened for it."""
