"""The judge is judged: each fault that it is there for must be found."""

from record import Record


def judged(*steps):
    record = Record("client")
    for step in steps:
        record.event("a", step) if isinstance(step, int) else record.lost(step)
    return record.verdict


def test_what_is_right():
    verdict = judged(5, 6, 7)
    assert verdict.is_clean and verdict.events == 3


def test_what_is_missing_must_have_been_told():
    assert judged(5, 9).missing_untold == 3
    assert judged(5, "link_hole", 9).missing_told == 3
    assert judged(5, "link_hole", 9, 11).missing_untold == 1, "one loss told excuses one gap"
    assert not judged(5, 7).is_clean


def test_a_loss_told_excuses_no_repeat():
    assert judged(5, "epoch_changed", 5).duplicates == 1
    assert judged(5, 6, "epoch_changed", 5).out_of_order == 1
