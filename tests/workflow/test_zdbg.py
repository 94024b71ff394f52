from tests.workflow.casino import Casino, bet
from tests.workflow.conftest import *


async def test_x(casino: Casino) -> None:
    h = await casino.open_lane(window_seconds=60.0)
    await casino.pass_time(3_600)
    lonely = bet("lonely")
    await casino.place_many([lonely])
    print(await casino.env.get_current_time())
    await casino.pass_time(55)
    print(await casino.env.get_current_time())
    await casino.pass_time(10)
    for _ in range(6):
        await casino.pass_time(20)
        print(await casino.env.get_current_time(), (await casino.status()), await casino.batches())
    hist = await h.fetch_history()
    for e in hist.events: print(e.event_time.ToDatetime(), e.event_id, e.event_type, str(e.timer_started_event_attributes)[:200], str(e.workflow_task_failed_event_attributes)[:600])
    assert 0
