"""What a client wrote down before it was killed is found again, whole lines only, and no earlier file is ever changed."""

from pathlib import Path

from chaos.books import ACKNOWLEDGED, SENT, Book, Shelf
from tests.domain.samples import bet


def test_what_was_written_is_found_by_the_next_start_and_by_the_whole_run(tmp_path: Path) -> None:
    Book(tmp_path, SENT, client=0).write([bet("a"), bet("b")])
    Book(tmp_path, SENT, client=0).write([bet("c")])
    Book(tmp_path, SENT, client=1).write([bet("d")])
    Book(tmp_path, ACKNOWLEDGED, client=0).write([bet("a")])
    assert Shelf(tmp_path, SENT, client=0).ids() == {"a", "b", "c"}
    assert Shelf(tmp_path, SENT).ids() == {"a", "b", "c", "d"}
    assert Shelf(tmp_path, ACKNOWLEDGED).ids() == {"a"}


def test_each_start_has_a_file_of_its_own(tmp_path: Path) -> None:
    for bet_id in ("a", "b", "c"):
        Book(tmp_path, SENT, client=0).write([bet(bet_id)])
    assert [file.read_text().count("\n") for file in sorted((tmp_path / SENT).iterdir())] == [1, 1, 1]


def test_line_that_a_kill_has_torn_does_not_count_until_it_is_whole(tmp_path: Path) -> None:
    Book(tmp_path, SENT, client=0).write([bet("a"), bet("b")])
    [file] = (tmp_path / SENT).iterdir()
    whole = file.read_bytes()
    shelf = Shelf(tmp_path, SENT)
    for end in range(len(whole) + 1):
        file.write_bytes(whole[:end])
        lines = whole[:end].count(b"\n")
        assert shelf.ids() == {"a", "b"} if lines == 2 else {"a"} if lines else not shelf.ids()


def test_client_that_has_no_books_yet_has_nothing_in_them(tmp_path: Path) -> None:
    assert Shelf(tmp_path, SENT, client=3).ids() == set()
