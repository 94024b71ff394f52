"""Kills a run of a money command at a moment of its choosing: what the next run finds is what a killed process would leave."""

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from ledger.rpc import RpcClient
from operations.once import Once
from operations.outbox import Place, SignedTransfer


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def killed(moment: str) -> Generator[None]:
    """The run inside is killed at that moment."""
    keep, send = Place.keep, RpcClient.send

    def before_keeping(_place: Place, _transfer: SignedTransfer) -> None:
        raise Killed

    def after_keeping(place: Place, transfer: SignedTransfer) -> None:
        keep(place, transfer)
        raise Killed

    async def after_sending(rpc: RpcClient, raw: str) -> None:
        await send(rpc, raw)
        raise Killed

    async def after_handing_out(*_: object) -> None:
        raise Killed

    def before_forgetting(_place: Place) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as monkeypatch:
        match moment:
            case "before keeping":
                monkeypatch.setattr(Place, "keep", before_keeping)
            case "after keeping":
                monkeypatch.setattr(Place, "keep", after_keeping)
            case "after sending":
                monkeypatch.setattr(RpcClient, "send", after_sending)
            case "after handing out":
                monkeypatch.setattr(Once, "finish", after_handing_out)
            case "before forgetting":
                monkeypatch.setattr(Place, "forget", before_forgetting)
            case _:
                raise ValueError(moment)
        with pytest.raises(Killed):
            yield
