"""The judge is judged: each fault that it is there for must be found."""

from record import Record


def judged(*steps, recorded=None):
    record = Record("client")
    for step in steps:
        record.event("a", step) if isinstance(step, int) else record.lost(step)
    return record.judge(recorded)


def test_what_is_right():
    verdict = judged(5, 6, 7)
    assert verdict.is_clean and verdict.events == 3


def test_what_is_missing_must_have_been_told():
    assert judged(5, 9).missing_untold == 3
    assert judged(5, "link_hole", 9).missing_told == 3
    assert judged(5, "link_hole", 9, 11).missing_untold == 1, "one loss told excuses one gap"
    assert not judged(5, 7).is_clean


def test_what_was_never_recorded_is_nobodys_loss():
    verdict = judged(5, 9, recorded={"a": {5, 7, 9}})
    assert (verdict.missing_untold, verdict.never_recorded, verdict.is_clean) == (1, 2, False)
    assert judged(5, 9, recorded={"a": {5, 9}}).is_clean


def test_a_loss_told_excuses_no_repeat():
    assert judged(5, "epoch_changed", 5).duplicates == 1
    assert judged(5, 6, "epoch_changed", 5).out_of_order == 1


def test_who_begins_anew_may_go_back_once():
    verdict = judged(5, 6, "unknown_position", 5, 6, 7)
    assert verdict.is_clean and verdict.begun_anew == 1
    assert judged(5, 6, "unknown_position", 6, 6).duplicates == 1
    assert judged(5, 6, "unknown_position", 7, 7).duplicates == 1, "it has gone on, and begins anew no more"
    assert judged(5, 6, "unknown_position", 5, 7).missing_untold == 1
