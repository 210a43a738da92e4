"""What can go wrong in a conversation, by the party at fault.

AssistantError
├── ConfigError     the configuration: the program doesn't start
├── ProtocolError   the client: it is told, and its session goes on
├── RefusedError    a limit: the client is told, and no session is opened
│   └── TooManyRequestsError  it asks too often, and is told when to ask again
├── EngineError     the model: the reply fails, and the conversation goes on
│   ├── PromptTooLongError  what is to be answered; a shorter prompt may do
│   └── GaveWayError        nobody: it gave way to another reply, and may be asked for again
└── ServerError     the server that `talk` speaks with: it can't be reached, refuses, or is gone
"""


class AssistantError(Exception):
    """Base of every error of ours; its text is fit to be shown to a person."""


class ConfigError(AssistantError):
    """A setting is unknown or out of range; the text names key, value and what is allowed."""


class ProtocolError(AssistantError):
    """A client's event can't be carried out; becomes an `error` event.

    `code` is one of the OpenAI Realtime API's where it has one, since clients act on those;
    `param` is the path of the offending field, such as `session.audio.input.format.rate`.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "invalid_value",
        param: str | None = None,
        event_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.param = param
        self.event_id = event_id


class RefusedError(AssistantError):
    """The server is at a limit or shutting down; the client may try again later."""


class TooManyRequestsError(RefusedError):
    """The client asks too often, and may ask again in `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineError(AssistantError):
    """The model couldn't do what was asked of it; the text says why."""


class PromptTooLongError(EngineError):
    """The prompt leaves no room for a reply; a shorter one may.

    `text_tokens` and `audio_tokens` are what it takes.
    """

    def __init__(self, message: str, *, text_tokens: int, audio_tokens: int) -> None:
        super().__init__(message)
        self.text_tokens = text_tokens
        self.audio_tokens = audio_tokens


class GaveWayError(EngineError):
    """A reply that was begun ahead gave its place to one that is waited for."""


class ServerError(AssistantError):
    """A conversation held on a server can't begin there, or broke off; the text says why."""
