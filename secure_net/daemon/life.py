"""The daemon's life: start, ready, reload, drain, stop.

Theory of operation. `run` opens what must be open, in an order in which the later needs the earlier, and
closes it in the reverse order whatever happens: log, state (under its lock), trail, services, control
socket. It then waits for signals. TERM and INT drain: the services take no more connections, calls under way
are answered, the admin listener goes on saying "not ready" and stops last. A second INT stops at once. HUP
reloads, as does the control socket; a reload reads everything first and changes nothing when any of it is
wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from secure_net import __version__
from secure_net.audit.trail import AuditTrail
from secure_net.clock import Clock, SystemClock
from secure_net.config import Configuration
from secure_net.control.acts import Administration, Running
from secure_net.control.socket import SOCKET_FILE, ControlServer
from secure_net.daemon import greeting
from secure_net.daemon.inputs import Inputs
from secure_net.daemon.notify import Notifier
from secure_net.daemon.parts import Parts
from secure_net.daemon.posture import descriptors_needed
from secure_net.daemon.pulse import Pulse
from secure_net.daemon.registries import load_registries
from secure_net.errors import SecureNetError
from secure_net.log import Logger, configure, get_logger
from secure_net.metrics import Metrics
from secure_net.store.sqlite import SQLiteStore
from secure_net.store.sqlite_broker import SQLiteBroker

if TYPE_CHECKING:
    from secure_net.control.status import Status
    from secure_net.http.admin import Check

ADMIN_DRAIN_SECONDS = 2.0
Say = Callable[[str], None]


class Daemon:
    """One daemon. `load` reads the configuration, now and at every reload; `say` prints a line for people.

    `program` is how ``secure-net`` was called, for the commands that are printed.
    """

    def __init__(
        self,
        load: Callable[[], Configuration],
        *,
        say: Say,
        program: str = "secure-net",
        notifier: Notifier | None = None,
    ) -> None:
        self._load, self._say, self._program = load, say, program
        self._notifier = notifier or Notifier()
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self._reloads: set[asyncio.Task[None]] = set()
        self._reloading = asyncio.Lock()  # what was read last is what is served in the end

    async def run(self) -> bool:
        """Serve until a signal says stop. True when everything was drained, False when it was cut short.

        Raises `ConfigurationError` or `StateError` when it cannot start; then nothing is left behind.
        """
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            self._greet()
            await self._stopping.wait()
            return await self._drain()

    def stop(self) -> None:
        """Drain, then stop."""
        self._stopping.set()

    # --- starting -------------------------------------------------------------------------------------

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        self._clock: Clock = SystemClock()
        self._started_at = self._clock.wall()
        configuration = self._load()
        inputs = Inputs.load(configuration, self._clock.wall())
        registry = load_registries(configuration)
        self._metrics = Metrics(__version__)
        self._open_log(stack, configuration)
        self._open_state(stack, configuration)
        self._parts = Parts(
            inputs,
            self._store.snapshot(),
            registry,
            clock=self._clock,
            metrics=self._metrics,
            trail=self._trail,
            logger=get_logger("rpc"),
            checks=self._checks(),
            broker=self._broker(configuration),
            status=self._status,
        )
        stack.callback(self._parts.close)
        await self._import_crl(inputs)
        self._raise_descriptor_limit(configuration)
        for listener in self._parts.listeners.values():
            listener.start()
            stack.callback(listener.stop)
        await self._open_control(stack, configuration)
        self._handle_signals(stack)
        pulse = Pulse(self._clock, self._metrics.loop_lag, self._beat, self._notifier.watchdog_seconds)
        pulse.start()
        stack.callback(pulse.stop)
        # What was made until now lives as long as the daemon: the collector need not walk it again.
        gc.collect()
        gc.freeze()

    def _beat(self) -> None:
        self._notifier.alive()
        self._parts.activity.take(self._clock.monotonic())

    def _broker(self, configuration: Configuration) -> SQLiteBroker | None:
        if configuration.chat is None:
            return None
        return SQLiteBroker(self._store.database, configuration.limits.chat)

    def _open_log(self, stack: contextlib.AsyncExitStack, configuration: Configuration) -> None:
        self._writer = configure(level=configuration.log.level, form=configuration.log.format)
        stack.callback(self._writer.close)
        self._metrics.log_lines_dropped = lambda: self._writer.dropped
        self._logger: Logger = get_logger("daemon")

    def _open_state(self, stack: contextlib.AsyncExitStack, configuration: Configuration) -> None:
        state = configuration.state_directory
        store = SQLiteStore.open(
            state, monotonic=self._clock.monotonic, observe=self._metrics.store_commit.observe
        )
        stack.callback(store.close)
        self._store = store
        self._trail = AuditTrail.open(state, self._clock, announce=self._announce_head)
        self._metrics.audit_records_dropped = lambda: self._trail.dropped
        stack.callback(self._trail.close)

    async def _open_control(self, stack: contextlib.AsyncExitStack, configuration: Configuration) -> None:
        parts = self._parts
        running = Running(
            parts.revocations,
            parts.policy,
            parts.cut_off,
            self._status,
            self.reload,
            revoked=parts.count_revocation,
        )
        self._administration = Administration(self._store, self._trail, self._clock, running)
        path = configuration.state_directory / SOCKET_FILE
        control = ControlServer(path, self._administration.perform, self._clock, self._logger.warning)
        await control.start()
        stack.push_async_callback(control.stop)

    def _status(self) -> Status:
        return self._parts.status(
            started_at=self._started_at,
            draining=self._stopping.is_set(),
            log_dropped=self._writer.dropped,
        )

    def _announce_head(self, head: str) -> None:
        self._logger.always("audit_head", head=head)

    def _raise_descriptor_limit(self, configuration: Configuration) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            except (OSError, ValueError) as error:  # a sandbox that forbids it
                self._logger.warning("descriptor_limit_not_raised", limit=soft, detail=str(error))
                hard = soft
        needed = descriptors_needed(configuration)
        if hard != resource.RLIM_INFINITY and hard < needed:
            self._logger.warning("descriptor_limit_low", limit=hard, needed=needed)
            self._say(
                f"warning: the limit of open files is {hard}, limits.connections_count asks for {needed}: "
                "raise the one or lower the other"
            )

    def _checks(self) -> dict[str, Check]:
        """What `/readyz` looks at."""
        return {"serving": self._serving, "certificate": self._certificate, "state": self._state}

    def _serving(self) -> str:
        return "draining" if self._stopping.is_set() else ""

    def _certificate(self) -> str:
        ends = self._parts.inputs.certificate_ends["server"]
        return "expired" if self._clock.wall() >= ends else ""

    def _state(self) -> str:
        failing = {"store": self._store.database.failing, "audit trail": self._trail.failing}
        said = " and ".join(name for name, fails in failing.items() if fails)
        return f"{said} cannot be written" if said else ""

    def _greet(self) -> None:
        configuration = self._parts.inputs.configuration
        listening = self._parts.listening
        for line in greeting.service_lines(listening):
            self._say(line)
        names = self._parts.inputs.material.names
        for line in greeting.commands(configuration, listening, names, self._program):
            self._say(line)
        self._say("ready")
        summary = ", ".join(f"{name} on {address}" for name, found in listening.items() for address in found)
        self._notifier.ready(summary)
        self._logger.info("ready", version=__version__, listening=summary)
        self._trail.record("daemon.start", service="daemon", version=__version__, process=os.getpid())

    # --- signals --------------------------------------------------------------------------------------

    def _handle_signals(self, stack: contextlib.AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        for number, handler in (
            (signal.SIGTERM, self.stop),
            (signal.SIGINT, self._interrupt),
            (signal.SIGHUP, self._hang_up),
        ):
            loop.add_signal_handler(number, handler)
            stack.callback(loop.remove_signal_handler, number)

    def _interrupt(self) -> None:
        if self._stopping.is_set():
            self._at_once.set()
        self.stop()

    def _hang_up(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reload_by_signal())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload_by_signal(self) -> None:
        with contextlib.suppress(SecureNetError):  # `reload` has logged what was wrong
            await self._administration.perform("reload", {}, "signal")

    # --- reload ---------------------------------------------------------------------------------------

    async def reload(self) -> dict[str, Any]:
        """Read configuration, certificates, keys and CRL anew, and serve with them.

        Returns the keys that wait for a restart. Raises `SecureNetError` when something is wrong; then
        everything stays as it was.
        """
        self._notifier.reloading(self._clock.monotonic())
        try:
            async with self._reloading:
                running = self._parts.inputs.configuration
                inputs = Inputs.load(self._load(), self._clock.wall(), running)
                # What can fail comes first: a CRL only ever adds, so there is nothing to take back.
                await self._import_crl(inputs)
                self._parts.apply(inputs)
        except SecureNetError as error:
            problem = str(error)
            self._logger.warning("reload_refused", detail=problem)
            raise
        finally:
            self._notifier.ready("serving")
        self._logger.info("reloaded", needs_restart=list(inputs.needs_restart))
        return {"needs_restart": list(inputs.needs_restart)}

    async def _import_crl(self, inputs: Inputs) -> None:
        """To the store first, then to memory, where it cuts connections."""
        if inputs.crl is None:
            return
        now = self._clock.wall()
        await self._store.import_crl(inputs.crl.number, dict.fromkeys(inputs.crl.serials, now))
        self._parts.import_crl(inputs.crl)

    # --- stopping -------------------------------------------------------------------------------------

    async def _drain(self) -> bool:
        """The services first, the admin listener last, so that probes see why."""
        seconds = self._parts.inputs.configuration.server.drain_seconds
        self._notifier.stopping()
        self._logger.info("draining", seconds=seconds)
        self._trail.record("daemon.stop", service="daemon")
        listeners = dict(self._parts.listeners)
        admin = listeners.pop("admin", None)
        self._parts.drain(seconds)
        work = asyncio.gather(*(listener.drain(seconds) for listener in listeners.values()))
        cut_short = asyncio.ensure_future(self._at_once.wait())
        await asyncio.wait((work, cut_short), return_when=asyncio.FIRST_COMPLETED)
        drained = work.done()
        if not drained:
            work.cancel()
            await asyncio.wait((work,))
            await asyncio.gather(*(listener.drain(0) for listener in listeners.values()))
        cut_short.cancel()
        if admin is not None:
            await admin.drain(ADMIN_DRAIN_SECONDS if drained else 0)
        return drained
