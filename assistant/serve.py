"""The server at work: where it listens, its certificate, and the address that people open."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial

import typer
import uvicorn
from rich.console import Console

from assistant.address import machine_names, print_qr_code, reachable_host, url
from assistant.choice import check_converses
from assistant.config import Config, ServerConfig, WebRtcConfig
from assistant.engines.engine import Engine
from assistant.errors import ConfigError
from assistant.realtime.registry import SessionRegistry
from assistant.server import create_app
from assistant.tls import Certificate, check_certificate, self_signed, state_folder
from assistant.wire import WebSocketWire
from audio_io.ice import PortRangeLoop

# The message limit is ours to explain; uvicorn closes the connection only well beyond it.
MESSAGE_SLACK_BYTES = 2**20
# How long open connections may take to say goodbye once the server is told to end.
GOODBYE_S = 1
# New objects before the youngest are gone through, and how often that is done before older ones
# are: Python's 700 cost a core with 150 streams 3 % of its time.
GARBAGE_THRESHOLDS = (10_000, 20, 20)

logger = logging.getLogger(__name__)


def run_server(config: Config, engine: Engine) -> None:
    """Serve until told to end by Ctrl-C or SIGTERM. Raises ConfigError, EngineError."""
    certificate = find_certificate(config.server)
    # Cancelled where it is told to end while the model is loaded.
    with (
        listen(config.server.host, config.server.port) as listener,
        suppress(asyncio.CancelledError),
        asyncio.Runner(loop_factory=_loop_factory(config.webrtc)) as runner,
    ):
        runner.run(_serve(config, engine, listener, certificate))


def _loop_factory(config: WebRtcConfig) -> Callable[[], asyncio.AbstractEventLoop] | None:
    return partial(PortRangeLoop, *config.udp_ports) if config.udp_ports else None


class Server(uvicorn.Server):
    """A server that lets its conversations come to their end, if there is time for that.

    Leaves the signals to us: uvicorn passes them on, which would end us before our engine.
    """

    def __init__(self, config: uvicorn.Config, registry: SessionRegistry) -> None:
        super().__init__(config)
        self._registry = registry

    async def leave(self, within_s: float) -> None:
        """End, once nothing is going on any more, or so much time has passed."""
        logger.info("Shutting down within %g s; a second signal ends at once.", within_s)
        now_s = asyncio.get_running_loop().time
        until_s = now_s() + within_s
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until_s):
                await self._registry.leave()
        # What was asked for by HTTP may take the rest of the time.
        self.config.timeout_graceful_shutdown = max(GOODBYE_S, int(until_s - now_s()))
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(
    config: Config, engine: Engine, listener: socket.socket, certificate: Certificate | None
) -> None:
    server = make_server(config, engine, certificate)
    loading = asyncio.current_task()
    assert loading is not None

    serving = False
    leaving: asyncio.Task[None] | None = None

    def end(number: int) -> None:
        nonlocal leaving
        # Once it has begun, the server ends itself: its parts are tasks of their own.
        if not serving:
            loading.cancel()
        elif number == signal.SIGTERM and leaving is None:
            leaving = asyncio.create_task(server.leave(config.server.leave_s), name="leaving")
        else:
            server.handle_exit(number, None)

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        await engine.start()
        check_converses(engine.info)
        spare_garbage_collection()
        logger.info("%s answers, on %s.", engine.info.model, engine.info.device)
        announce(config.server, port=listener.getsockname()[1])
        serving = True
        await server.serve(sockets=[listener])
    finally:
        if leaving:
            leaving.cancel()
        await engine.close()


def spare_garbage_collection() -> None:
    """Leave out of it what has been loaded by now, for good.

    Going through all of it takes 50 ms, with FastRTC 90, in which nobody is heard. What comes later
    is looked at less often: of a conversation, next to nothing is held by itself alone.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def make_server(config: Config, engine: Engine, certificate: Certificate | None = None) -> Server:
    """The server as it is run, for an engine that will have started. Raises as `create_app`."""
    registry = SessionRegistry(engine, config)

    class Wire(WebSocketWire):
        # Half of it for the session to find out, and half to say so.
        stuck_s = 2 * config.limits.send_timeout_s

    return Server(
        uvicorn.Config(
            create_app(config, engine, registry),
            ssl_certfile=certificate.certificate if certificate else None,
            ssl_keyfile=certificate.key if certificate else None,
            ws=Wire,
            ws_max_size=config.limits.max_message_bytes + MESSAGE_SLACK_BYTES,
            # Base64 of sound hardly compresses, and deflate costs more than all the rest.
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=GOODBYE_S,
            log_level="warning",
        ),
        registry,
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket that connections arrive at. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # "::" stands for all addresses, also those of IPv4.
        listener = socket.create_server(
            (host, port), family=family, dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6()
        )
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        help_ = (
            "Another program uses it: choose another port with --port."
            if taken
            else ("Name an address of this machine by --host, and a free port by --port.")
        )
        raise ConfigError(f"can't listen on {host}, port {port}: {reason}. {help_}") from error
    # Inherited by connections; asyncio doesn't set it where a listener names no protocol, and then
    # the first token waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def find_certificate(config: ServerConfig) -> Certificate | None:
    """The certificate to serve with; None for plain http. Raises ConfigError."""
    if config.tls_self_signed:
        return self_signed(state_folder(), machine_names(config.host), datetime.now(UTC))
    if config.tls_cert and config.tls_key:
        certificate = Certificate(config.tls_cert, config.tls_key)
        check_certificate(certificate)
        return certificate
    return None


def announce(config: ServerConfig, port: int) -> None:
    """Print the address to open, and for other machines its QR code."""
    secure = bool(config.tls_cert or config.tls_self_signed)
    host = reachable_host(config.host)
    address = url("https" if secure else "http", host, port)
    typer.echo(f"Listening on {address} - open it in a browser and talk. Ctrl-C ends.")
    if config.is_local:
        return
    if secure:
        print_qr_code(address, Console())
    else:
        typer.echo(
            "Beyond this machine, browsers give the microphone only to https pages: add "
            "--tls-self-signed, or --tls-cert and --tls-key."
        )
    if config.tls_self_signed:
        typer.echo("The certificate is this machine's own: a browser asks once whether to go on.")
