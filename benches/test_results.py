"""What counts of a results file: `python3 -m unittest discover benches`."""

import random
import unittest

import report
from results import Results, spread


def run(server: str, rep: int, value: float, **more) -> dict:
    return {"server": server, "workload": "fanout", "rep": rep, "attempt": 0, "cpu_us": value, **more}


class ResultsTest(unittest.TestCase):
    def test_a_spread_holds_its_values(self):
        seed = random.randrange(2**32)
        chance = random.Random(seed)
        for _ in range(100):
            values = [chance.uniform(0, 100) for _ in range(chance.randint(1, 9))]
            of = spread(values)
            below = sum(value <= of.middle for value in values)
            self.assertTrue(of.least <= of.middle <= of.most, f"seed {seed}")
            self.assertGreaterEqual(2 * below, len(values), f"seed {seed}")
        self.assertIsNone(spread([]))

    def test_ratios_are_of_runs_that_stood_together(self):
        # The machine is three times as slow in the second repetition: the medians' ratio would say 1.2, every pair says 2.
        results = Results([{}, run("floor", 0, 1), run("floor", 1, 3), run("floor", 2, 5),
                           run("trestle", 0, 2), run("trestle", 1, 6)])
        ratio = results.ratio("trestle", "fanout", "cpu_us")
        self.assertEqual((ratio.middle, ratio.least, ratio.most, ratio.runs), (2, 2, 2, 2))

    def test_the_last_attempt_counts(self):
        results = Results([{}, run("floor", 0, 9, others=0.5), run("floor", 0, 1, attempt=1)])
        self.assertEqual(results.of("floor", "fanout", "cpu_us").middle, 1)
        self.assertEqual([one["cpu_us"] for one in results.disturbed], [9])

    def test_disturbed_runs_count_where_there_are_no_others(self):
        disturbed = {"steal": 0.2}
        results = Results([{}, run("floor", 0, 9, **disturbed), run("floor", 1, 1), run("warp", 0, 5, **disturbed)])
        self.assertEqual(results.of("floor", "fanout", "cpu_us").most, 1)
        self.assertEqual(results.of("warp", "fanout", "cpu_us").middle, 5)
        self.assertEqual(results.doubtful, {("warp", "fanout")})

    def test_a_failed_run_is_named_and_counts_nowhere(self):
        results = Results([{}, {"server": "warp", "workload": "fanout", "rep": 0, "attempt": 0, "error": "no"}])
        self.assertIsNone(results.of("warp", "fanout", "cpu_us"))
        self.assertEqual(len(results.errors), 1)

    def test_numbers_keep_three_digits(self):
        texts = {0: "0", 0.0123: "0.012", 0.1234: "0.12", 4.567: "4.57", 45.67: "45.7", 456.7: "457", 4567: "4,567",
                 45_678: "45.7 k", 456_789: "457 k", 4_567_890: "4.57 M"}
        for value, text in texts.items():
            self.assertEqual(report.number(value), text)


if __name__ == "__main__":
    unittest.main()
