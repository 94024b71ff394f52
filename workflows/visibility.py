"""The search attributes by which people find lanes, batches and bets in the Web UI and with `temporal workflow list`."""

from typing import Any, Final

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributeUpdate

LANE: Final = SearchAttributeKey.for_int("CroupierLane")
BATCH_NUMBER: Final = SearchAttributeKey.for_int("CroupierBatchNumber")
BATCH_STATUS: Final = SearchAttributeKey.for_keyword("CroupierBatchStatus")
BATCH_ID: Final = SearchAttributeKey.for_keyword("CroupierBatchId")
LANE_STATE: Final = SearchAttributeKey.for_keyword("CroupierLaneState")
SEARCH_ATTRIBUTES: Final[tuple[SearchAttributeKey[Any], ...]] = (LANE, BATCH_NUMBER, BATCH_STATUS, BATCH_ID, LANE_STATE)


def show(*updates: SearchAttributeUpdate[Any]) -> None:
    """Sets search attributes of the current workflow."""
    workflow.upsert_search_attributes(updates)  # pyright: ignore[reportUnknownMemberType] - the SDK leaves it generic
