"""What was found: verdicts and their tables, comparisons, audits, scores, and what to do next."""

import shlex
from pathlib import Path
from typing import Any

from lapwing.console.lines import is_terminal, print_table, say


def show_result(run: Any) -> None:
    """The verdict of a finished run, its table, its transfer, where everything is, and what to do next."""
    say()
    show_evaluation(run.evaluation)
    for label, result in run.transfer.items():
        say(f"\nTransfer: the same weights on {label}, never trained there")
        show_evaluation(result, with_verdict=False)
    say()
    for line in [*_paths(run), *_next_commands(run)]:
        say(line)


def show_verdict(run: Any) -> None:
    """The verdict of a finished run in one sentence, and where everything is."""
    from lapwing.report.verdict import verdict

    say(verdict(run.evaluation).sentence)
    for line in _paths(run):
        say(line)


def _paths(run: Any) -> list[str]:
    return [f"report:  {run.path / 'report.html'}", f"model:   {run.model}"]


def _next_commands(run: Any) -> list[str]:
    """Each as it is typed, for this run."""
    from lapwing import build

    path, recipe = str(run.path), run.path / "recipe.toml"
    packages = build.outside_packages(build.read_recipe(str(recipe)))
    allowed = [word for package in packages for word in ("--allow-code", package)]
    origin = ["--from", run.start_from] if run.start_from else []
    found = [("repeat", ["train", str(recipe), *origin, *allowed])]
    if _is_auditable(recipe, packages):
        found.insert(0, ("audit", ["audit", path, *allowed]))
    found.insert(0, ("eval", ["eval", path, "--baselines", *allowed]))
    if any(run.path.glob("episodes/*.jsonl")) or (run.path / "replay.json").is_file():
        found.insert(0, ("watch", ["watch", path]))
    return [f"{f'{label}:':<8} {shlex.join(['lapwing', *words])}" for label, words in found]


def _is_auditable(recipe: Path, packages: tuple[str, ...]) -> bool:
    """Whether the exact answer can be computed for a game and a policy; their code was allowed when the run began."""
    from lapwing import build
    from lapwing.core.errors import LapwingError

    try:
        plan = build.against_fixed(build.plan(build.read_recipe(str(recipe)), allow_code=packages)[-1])
        build.check_solvable(plan, build.make_game(plan.game))
    except (LapwingError, OSError):
        return False
    return True


def show_evaluation(result: dict[str, Any], *, with_verdict: bool = True) -> None:
    """The table of an evaluation, with its verdict before it."""
    from rich.console import Console
    from rich.table import Table

    from lapwing.report.verdict import against, part_table, reference_notes, table_rows, verdict

    if with_verdict and {"trained", "untrained"} <= set(result["policies"]):
        say(verdict(result).sentence)
        say()
    rows = table_rows(result)
    table = Table(title=None, box=None, pad_edge=False)
    for heading in ("policy", *rows[0].cells):
        table.add_column(heading, justify="left" if heading == "policy" else "right", no_wrap=True)
    for row in rows:
        table.add_row(row.label, *row.cells.values())
    Console(highlight=False, width=None if is_terminal() else 160).print(table)
    parts = part_table(result)
    if parts is not None:
        say()
        print_table(*parts)
        say()
    say(f"{result['episodes']} matches of {result['game']}{against(result)}, 95 % intervals.")
    for note in reference_notes(result):
        say(f"{note[:1].upper()}{note[1:]}.")
    if (usage := result.get("usage")) is not None:
        cost = "" if usage["cost"] is None else f", cost {usage['cost']:.4f}"
        tokens = f"{usage['prompt_tokens']:,} prompt and {usage['completion_tokens']:,} reply tokens"
        say(f"The server answered {usage['requests']:,} requests: {tokens}{cost}.")


def show_comparison(comparison: Any) -> None:
    """The tables of a comparison, what they say, and where everything is."""
    from lapwing.report.comparison import pair_table, recipe_table, summary, token_table

    result = comparison.result
    say(f"\n{summary(result)}")
    for table in (recipe_table(result), token_table(result), pair_table(result)):
        say()
        print_table(table.headings, table.rows)
    say("\nIntervals: 95 % bootstrap over seeds. p: paired sign-flip test over seeds.")
    for sentence in result["verdict"]:
        say(sentence)
    for note in result["notes"]:
        say(f"Note: {note}")
    say(f"\nreport:  {comparison.page}")
    say(f"numbers: {comparison.path / 'comparison.json'}")


def show_audit(result: dict[str, Any]) -> None:
    """The tables of an audit, and which methods are missing."""
    from lapwing.report.audit import NOTE, audit_tables, left_out, summary

    for audit in result["audits"]:
        say(f"\n{summary(audit)}")
        for table in audit_tables(audit):
            say(f"\n{table.title}")
            print_table(table.headings, table.rows)
        say()
        for sentence in left_out(audit):
            say(sentence)
    say(f"\n{NOTE}")


def show_score(score: Any, out: Path | None) -> None:
    """The table of a score, what was not scored, and where everything is."""
    from lapwing.report.score_page import score_summary, score_table

    say(score_summary(score.transcripts))
    for note in score.transcripts.notes:
        say(f"Note: {note}")
    say()
    print_table(*score_table(score))
    say(
        "\nmean |A|, zero: over steps. sign agrees: steps whose advantage has the sign of their episode's return"
        "\nrelative to its group, where neither is 0. Rank correlation: Spearman's, over steps."
    )
    if score.not_scored:
        say(f"\nNot scored: {len(score.not_scored)}")
    for reason in score.not_scored.values():
        say(f"  {reason}")
    if out is None:
        say("\nThe advantage of every step: --json, or --out DIR for score.json and a page to read.")
    else:
        say(f"\nreport:  {out / 'score.html'}")
        say(f"numbers: {out / 'score.json'}")
