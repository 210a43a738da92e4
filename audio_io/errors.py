"""What can go wrong with sound, by the party at fault.

AudioError
├── AudioFormatError   the bytes or the format are not what was promised
└── PeerError          the other end of a WebRTC connection sent something unusable
"""


class AudioError(Exception):
    """Base of every error that audio_io raises; its text is fit to be shown to a person."""


class AudioFormatError(AudioError):
    """Audio that can't be read as what it was said to be; the stream may go on with good audio."""


class PeerError(AudioError):
    """A WebRTC peer's offer can't be answered; nothing was opened for it."""
