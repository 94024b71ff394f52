"""What was killed is started again, what ends by itself too, and nothing that was started stays behind."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest

from chaos import services
from chaos.plan import Target
from chaos.services import Service, State, Supervisor
from chaos.watching import Healing, Standing
from settlement.lifecycle import BatchStatus

READY = "at your service"
SLEEPING = f"import time; print('{READY}', flush=True); time.sleep(600)"
SECONDS = 30.0


@pytest.fixture
async def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Supervisor]:
    monkeypatch.setattr(services, "RESTART_SECONDS", 0.01)
    supervisor = Supervisor(tmp_path)
    try:
        yield supervisor
    finally:
        await supervisor.stop()


Keep = Callable[..., Awaitable[Service]]


@pytest.fixture
def keep(supervisor: Supervisor) -> Keep:
    async def keep(program: str = SLEEPING, target: Target = Target.LEDGER) -> Service:
        service = supervisor.keep("service", target, (sys.executable, "-c", program), READY, os.environ)
        async with asyncio.timeout(SECONDS):
            await supervisor.until(lambda: service.state is not State.DOWN)
        return service

    return keep


async def until(supervisor: Supervisor, holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        await supervisor.until(holds)


def alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


async def test_killed_process_is_started_again_and_not_counted_as_ended_by_itself(
    supervisor: Supervisor, keep: Keep
) -> None:
    service = await keep()
    await supervisor.ready(service)
    first = service.process_id
    service.kill(0.01)
    await until(supervisor, lambda: service.starts == 2 and service.state is State.READY)
    assert not alive(first)
    assert alive(service.process_id)
    assert service.ends == 0


async def test_process_that_ends_by_itself_is_started_again_and_counted(supervisor: Supervisor, keep: Keep) -> None:
    service = await keep("raise SystemExit(1)")
    await until(supervisor, lambda: service.starts >= 3)
    assert service.ends >= 2


async def test_server_that_ends_in_peace_is_started_again_and_a_client_has_finished(
    supervisor: Supervisor, keep: Keep
) -> None:
    server, client = await keep("", Target.LEDGER), await keep("", Target.CLIENT)
    await until(supervisor, lambda: server.starts >= 2 and client.state is State.FINISHED)
    assert client.starts == 1


async def test_nothing_stays_behind(supervisor: Supervisor, keep: Keep) -> None:
    kept = [await keep(), await keep()]
    await supervisor.ready(*kept)
    await supervisor.stop()
    assert not any(alive(service.process_id) for service in kept)


def standing(unsettled: int, final: int) -> Standing:
    return Standing(sent=9, acknowledged=9, refused=0, unsettled=unsettled, batches={BatchStatus.CONFIRMED: final})


async def test_kill_has_healed_when_its_process_serves_and_a_further_batch_is_final_after_that(
    supervisor: Supervisor, keep: Keep
) -> None:
    service, healing = await keep(), Healing()
    await supervisor.ready(service)
    healing.hurt(service)
    service.kill(0.01)
    healing.look(standing(unsettled=5, final=1))
    assert healing.open == 1, "it is down"
    await until(supervisor, lambda: service.starts == 2 and service.state is State.READY)
    healing.look(standing(unsettled=5, final=2))
    assert healing.open == 1, "what became final while it was down says nothing"
    healing.look(standing(unsettled=5, final=2))
    assert healing.open == 1
    healing.look(standing(unsettled=4, final=3))
    assert (healing.open, healing.healed) == (0, 1)
    assert healing.longest_seconds > 0


async def test_where_nothing_waits_to_be_settled_serving_is_all_there_is_to_heal(
    supervisor: Supervisor, keep: Keep
) -> None:
    service, healing = await keep(), Healing()
    await supervisor.ready(service)
    healing.hurt(service)
    service.kill(0.01)
    healing.look(standing(unsettled=0, final=1))
    assert healing.open == 1
    await until(supervisor, lambda: service.starts == 2 and service.state is State.READY)
    healing.look(standing(unsettled=0, final=1))
    assert healing.healed == 1
