"""Every fault case is named by a test, or docs/fault_cases.toml says why none does."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLES = runpy.run_path(str(ROOT / "docs" / "reliability_tables.py"))
MUTANTS = runpy.run_path(str(ROOT / "benchmarks" / "mutants.py"))["MUTANTS"]


def parts():
    found = TABLES["cases"]()
    reasons = found.pop("reasons")
    return {number: text for part in found.values() for number, text in part.items()}, reasons


def test_all_cases_are_listed_once():
    listed, _ = parts()
    assert sorted(listed) == list(range(1, 76))


def test_every_case_is_named_by_a_test_or_has_a_reason():
    listed, reasons = parts()
    named = TABLES["naming_tests"]()
    assert sorted(set(listed) - set(named) - set(reasons)) == [], "neither"
    assert sorted(set(named) & set(reasons)) == [], "both: the reason is out of date"
    assert all(len(reason.split()) > 4 for reason in reasons.values())


def test_a_case_is_found_in_names_comments_and_parameters_and_nowhere_else():
    text = """
# F3, F04: and more. Fails when F5 is away.
@pytest.mark.parametrize("x", ["F6: a name", "the F1 score"])  # F7
def test_f08_f9_and_f_10(x):
    assert "F11"  # F12

# F01

def test_f1_of_an_answer_and_not_a_fault(y):
    pass

# F01.
def test_of_something():
    pass
"""
    assert dict(TABLES["_named_in"](text)) == {
        "test_f08_f9_and_f_10": {3, 4, 5, 6, 8, 9},
        "test_f1_of_an_answer_and_not_a_fault": set(),
        "test_of_something": {1},
    }


def test_every_mutant_is_one_change_of_a_test_that_is_there():
    named = [mutant.name for mutant in MUTANTS]
    assert len(set(named)) == len(named)
    for mutant in MUTANTS:
        assert (ROOT / "src" / "lapwing" / mutant.file).read_text("utf-8").count(mutant.old) == 1, mutant.name
        file, *test = mutant.test.split("::")
        assert f"def {test[0].partition('[')[0]}(" in (ROOT / file).read_text("utf-8") if test else True, mutant.name
