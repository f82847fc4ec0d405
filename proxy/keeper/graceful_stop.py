"""Stops the instance on SIGTERM or SIGINT without losing a request, in a bounded time."""

import asyncio
import signal

from proxy.clock import Clock
from proxy.events import Event, WorkerEnded
from proxy.keeper.exit_timer import CLOSING_SECONDS, ExitTimer
from proxy.keeper.generations import KILL_AFTER_SECONDS, Generations
from proxy.keeper.service_manager import ServiceManager
from proxy.keeper.sockets import Sockets
from proxy.telemetry.log import EventLog

# Time for load balancers to see that the instance is not ready; not used if the server listens on loopback.
GRACE_SECONDS = 5.0
_LOOK_SECONDS = 0.1


class GracefulStop:
    """Waits for the signal, then closes *sockets* and drains the generations.

    *draining* says that it has begun, *in_order* that every request received was answered and recorded.
    """

    def __init__(
        self, *, sockets: Sockets, manager: ServiceManager, exit_timer: ExitTimer, clock: Clock, log: EventLog
    ) -> None:
        self.draining = False
        self.in_order = True
        self._sockets = sockets
        self._manager = manager
        self._exit_timer = exit_timer
        self._clock = clock
        self._log = log

    def observe(self, event: Event) -> None:
        """Note that, while stopping, a worker was killed or could not write its journal."""
        if isinstance(event, WorkerEnded) and self.draining and event.exit_code and event.served:
            self.in_order = False

    async def run(self, generations: Generations) -> None:
        """Wait for SIGTERM or SIGINT, then stop *generations*: return when their workers have ended or were killed."""
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.set)
        await asked.wait()
        server = generations.current.snapshot.server
        grace = 0.0 if server.loopback else GRACE_SECONDS
        most = server.exchange_timeout + KILL_AFTER_SECONDS
        self.draining = True
        self._log.write_line(f"stopping: the listener closes in {grace:.0f} s, then what is in flight ends")
        whole = grace + most + CLOSING_SECONDS
        self._exit_timer.start(whole)
        self._manager.stopping(f"Stopping: what is in flight ends, within {whole:.0f} s", most=whole)
        generations.stop(grace=grace, handed_over=self._sockets.outlive_us)
        await self._clock.sleep(grace)
        self._sockets.close()
        end = self._clock.monotonic() + most
        while generations.have_workers() and self._clock.monotonic() < end:
            await self._clock.sleep(_LOOK_SECONDS)
        generations.kill()
        self._exit_timer.start()

    def log_end(self) -> bool:
        """Log, as the last line, whether the stop was in order, and return it."""
        everything = "every request that came in was answered and recorded"
        self._log.write_line(f"payproxy has stopped: {everything if self.in_order else f'not {everything}, see above'}")
        return self.in_order

    def __repr__(self) -> str:
        return f"<GracefulStop {'draining' if self.draining else 'not asked'}>"
