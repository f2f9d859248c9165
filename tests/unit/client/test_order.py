"""What a caller is told of how far a file is."""

from haulier.client.order import Report
from haulier.core.errors import PeerUnreachable
from haulier.core.progress import Progress


def test_a_part_that_waits_takes_nothing_from_what_is_shown_and_only_what_goes_anew_does() -> None:
    told: list[Progress] = []
    report = Report(told.append, 100)
    report.acknowledged(20)
    report.moving(1, 30)
    report.moving(2, 40)
    report.waiting(PeerUnreachable("http://service", "cut"))
    report.moving(1, 35)
    report.arrived(1, 40)
    report.arrived(2, 40)
    assert [it.done + it.moving for it in told] == [20, 50, 90, 90, 95, 100, 100]
    assert [it.waiting is None for it in told] == [True, True, True, False, True, True, True]


def test_of_a_part_that_goes_anew_only_what_went_since_is_counted() -> None:
    told: list[Progress] = []
    report = Report(told.append, 100)
    report.moving(1, 30)
    report.moving(2, 40)
    report.waiting(PeerUnreachable("http://service", "cut"))
    report.moving(2, 5)
    assert told[-1].done + told[-1].moving == 35
    report.acknowledged(10)
    assert (told[-1].done, told[-1].moving) == (10, 0)
