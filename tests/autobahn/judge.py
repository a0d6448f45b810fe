"""Compares what the Autobahn suite found with the committed results: judge.py REPORTS RESULTS [--update].

Each case has two verdicts, on what was said and on how the connection closed. Both must be OK, or INFORMATIONAL where
the suite has no opinion; a pass that is not strict, a case not implemented and an unclean close are failures.
"""

import collections
import json
import pathlib
import sys

ACCEPTED = {"OK", "INFORMATIONAL"}


def found(reports):
    """The verdicts in the reports: {case: [behavior, behaviorClose]}, in the order of the cases."""
    cases = {}
    for index in reports.glob("*/index.json"):
        for case, verdict in json.loads(index.read_text())["trestle"].items():
            cases[case] = [verdict["behavior"], verdict["behaviorClose"]]
    return dict(sorted(cases.items(), key=lambda item: [int(part) for part in item[0].split(".")]))


def written(cases):
    """One case a line, so that a difference shows as one."""
    lines = (f"  {json.dumps(case)}: {json.dumps(verdict)}" for case, verdict in cases.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def complaints(cases, expected):
    """What is wrong, a sentence a case."""
    for case, verdict in cases.items():
        if not ACCEPTED.issuperset(verdict):
            yield f"case {case} did not pass: behavior {verdict[0]}, close {verdict[1]}"
    for case in {**expected, **cases}:
        was, is_now = expected.get(case), cases.get(case)
        if was != is_now:
            names = [" / ".join(verdict) if verdict else "absent" for verdict in (was, is_now)]
            yield f"case {case} was {names[0]} in results.json and is {names[1]} now"


def main():
    reports, results = map(pathlib.Path, sys.argv[1:3])
    cases = found(reports)
    if "--update" in sys.argv[3:]:
        results.write_text(written(cases))
    expected = json.loads(results.read_text())
    wrong = list(complaints(cases, expected))
    for line in wrong:
        print(line)
    if wrong:
        print(f"Each case's report is below {reports}. If a difference is meant: tests/autobahn/run --update")
    counts = collections.Counter(" / ".join(sorted(set(verdict))) for verdict in cases.values())
    summary = ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common())
    print(f"Autobahn: {len(cases)} cases: {summary}; {'FAILED' if wrong or not cases else 'as expected'}")
    sys.exit(bool(wrong) or not cases)


main()
