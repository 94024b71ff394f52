"""A signed transfer is on disk before it is sent, stays until its end is known, and is nobody else's meanwhile."""

import errno
import itertools
import os
import stat
from pathlib import Path

import pytest

from ledger.files import PublishedInDoubt, publish
from operations import outbox
from operations.outbox import OutboxUnusable, SignedTransfer, TransferUnderWay, reserved

SIGNED = SignedTransfer(
    what="deposit",
    cluster="genesis",
    signature="signature",
    raw="AQID",
    last_valid_block_height=1_000,
    signed_after_slot=900,
)


def test_what_is_kept_is_found_by_the_next_run_until_it_is_forgotten(tmp_path: Path) -> None:
    with reserved(tmp_path / "transfers", "0-a-deposit") as place:
        assert place.read() is None
        place.keep(SIGNED)
    with reserved(tmp_path / "transfers", "0-a-deposit") as place:
        assert place.read() == SIGNED
        place.forget()
    with reserved(tmp_path / "transfers", "0-a-deposit") as place:
        assert place.read() is None


def test_a_record_is_for_its_owner_alone(tmp_path: Path) -> None:
    with reserved(tmp_path, "purpose") as place:
        place.keep(SIGNED)
        assert stat.S_IMODE(place.file.stat().st_mode) == 0o600


def test_a_record_is_durable_before_keep_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    sync = os.fsync

    def noted(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        sync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    with reserved(tmp_path, "purpose") as place:
        place.keep(SIGNED)
    content, folder = synced
    assert Path(content).name.startswith(".purpose.json."), "the bytes first"
    assert folder == str(tmp_path), "then the name"


def test_a_record_is_never_replaced(tmp_path: Path) -> None:
    with reserved(tmp_path, "purpose") as place:
        place.keep(SIGNED)
        with pytest.raises(OutboxUnusable, match="nothing was sent"):
            place.keep(SIGNED.model_copy(update={"signature": "another"}))
        assert place.read() == SIGNED


@pytest.mark.parametrize(("call", "fails_at"), [("fsync", 1), ("link", 1), ("fsync", 2)])
def test_a_full_disk_leaves_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, fails_at: int
) -> None:
    calls = itertools.count(1)
    works = getattr(os, call)

    def full(*arguments: object) -> None:
        if next(calls) == fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        works(*arguments)

    with reserved(tmp_path, "purpose") as place:
        monkeypatch.setattr(os, call, full)
        with pytest.raises(OutboxUnusable, match=r"purpose\.json cannot be written: No space left on device; nothing"):
            place.keep(SIGNED)
    assert [file.name for file in tmp_path.iterdir()] == ["purpose.lock"]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff\x00", SIGNED.model_dump_json().encode()[:-9], b" " * 100_000, b'{"lamports": true}']
)
def test_a_corrupt_record_is_named_with_the_remedy_and_left(tmp_path: Path, content: bytes) -> None:
    with reserved(tmp_path, "purpose") as place:
        place.file.write_bytes(content)
        with pytest.raises(OutboxUnusable, match=r"purpose\.json does not hold.*look at the balances.*remove the file"):
            place.read()
        assert place.file.read_bytes() == content


def test_two_at_once_for_one_purpose_are_told_apart(tmp_path: Path) -> None:
    with reserved(tmp_path, "0-a-deposit"):
        with pytest.raises(TransferUnderWay, match=r"\(0-a-deposit\) now: wait"), reserved(tmp_path, "0-a-deposit"):
            pass
        with reserved(tmp_path, "0-b-deposit"), reserved(tmp_path, "0-a-withdrawal"):
            pass
    with reserved(tmp_path, "0-a-deposit"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutboxUnusable, match="cannot be made"), reserved(tmp_path / "file", "purpose"):
        pass


def test_a_name_that_cannot_be_made_durable_is_taken_away_again_and_said_to_be_in_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = itertools.count(1)
    sync = os.fsync

    def full(handle: int) -> None:
        if next(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PublishedInDoubt, match="No space left"):
        publish(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_opened_is_found_out_before_anything_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens = os.open

    def refused(path: Path, flags: int, mode: int = 0o777) -> int:
        if path == tmp_path:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return opens(path, flags, mode)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(OSError, match="Too many open files") as refusal:
        publish(tmp_path / "file", b"content")
    assert not isinstance(refusal.value, PublishedInDoubt)
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_somebody_has_removed_is_forgotten(tmp_path: Path) -> None:
    with reserved(tmp_path, "purpose") as place:
        place.keep(SIGNED)
        place.file.unlink()
        place.forget()


def test_parts_of_a_purpose_have_records_of_their_own(tmp_path: Path) -> None:
    with reserved(tmp_path, "purpose") as place:
        place.part(0).keep(SIGNED)
        assert [found.read() for found in (place, place.part(0), place.part(1))] == [None, SIGNED, None]


def test_where_transfers_have_landed_is_kept_for_each_cluster_and_only_rises(tmp_path: Path) -> None:
    with reserved(tmp_path, "purpose") as place:
        here, elsewhere = place.high_water("here"), place.high_water("elsewhere")
        assert here.slot() == 0
        for slot in (7, 120, 13, 120):
            here.raise_to(slot)
        elsewhere.raise_to(3)
    with reserved(tmp_path, "purpose") as place, reserved(tmp_path, "purpose-2") as other:
        assert (place.high_water("here").slot(), place.high_water("elsewhere").slot()) == (120, 3)
        assert other.high_water("here").slot() == 0
    assert len(list(tmp_path.glob("*.landed"))) == 2


def test_a_slot_that_cannot_be_kept_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path, _content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(outbox, "publish", full)
    with reserved(tmp_path, "purpose") as place, pytest.raises(OutboxUnusable, match=r"\.9\.landed cannot be written"):
        place.high_water("here").raise_to(9)
