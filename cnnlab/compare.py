"""`python -m cnnlab.compare RUN_OR_FOLDER ...`: runs side by side, their seeds grouped."""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable
from rich.text import Text

from cnnlab import cli
from cnnlab.errors import ConfigError
from cnnlab.sweep import columns, presentation
from cnnlab.sweep.comparison import NUMBERS, Configuration, Table, configurations, sort_rows, tables
from cnnlab.sweep.filters import matching
from cnnlab.sweep.runs import LeftOut, read_runs
from cnnlab.sweep.verdicts import Verdict, against_best
from cnnlab.tracking.console import Terminal, wide_console

HELP = """Show runs side by side. A row is a configuration: its seeds are grouped, and only the settings that differ are shown.

  python -m cnnlab.compare outputs                         every run below a folder
  python -m cnnlab.compare RUN RUN FOLDER                  these
  python -m cnnlab.compare outputs --where model=lenet optimizer.lr=0.01,0.001
  python -m cnnlab.compare outputs --sort seconds
  python -m cnnlab.compare outputs --markdown > table.md
  python -m cnnlab.compare outputs --plot curves.png --html report.html

A row tells n (the number of seeds), the mean of the test score, its standard deviation and 95 % interval, the means of
the validation score and of the seconds, and the parameters. Rows are ranked by validation score, since the test images
choose nothing; rows without one come last, by test score. The best row is tested against each other row on the test
score: by McNemar's exact test on the predictions with one seed each, else by a paired t-test over the common seeds, with
Holm's correction. Runs on different test images stand in different tables. Runs without a score are listed below.

Options:
  --where KEY=VALUE   only runs with this choice (model=lenet) or setting (optimizer.lr=0.01); A,B means either; several
                      conditions, each with or without its own --where, must all hold
  --sort COLUMN       by n, test, std, validation, seconds, parameters or a setting
  --csv, --markdown, --json
                      print the rows in this form, and nothing else; numbers of --csv and --json are not rounded
  --plot FILE         draw the learning curves with their seeds' range: .png, .svg or .pdf
  --html FILE         write a report: tables, curves, confusion matrices in one file that needs nothing else
"""
FORMS = ("--csv", "--markdown", "--json")


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit code."""
    split = [part for word in arguments for part in (("--where", word[8:]) if word.startswith("--where=") else (word,))]
    line = cli.parse(split, ("--help", "-h", "--where", *FORMS), ("--sort", "--plot", "--html"))
    options = line.options
    if "--help" in options or "-h" in options:
        print(HELP, end="")
        return 0
    form = _check(line)
    runs, left_out = read_runs(line.words)
    rows, repeated = configurations(matching(runs, line.changes))
    made = tables(rows)
    legal = columns.differing([row.runs[0] for row in rows])
    sort = options.get("--sort")
    if sort is not None:
        rows = sort_rows(rows, sort, legal)
    else:
        rows = [row for table in made for row in table.rows]
    wants_verdicts = form != "--json"
    verdicts = [against_best(table.rows[0], table.rows[1:]) if wants_verdicts else [] for table in made]
    if form == "--json":
        print(json.dumps([presentation.as_values(row, legal) for row in rows], indent=2, default=str))
    elif form == "--csv":
        _print_csv(rows, legal, made, verdicts)
    elif form == "--markdown":
        _print_markdown(made, verdicts, sort)
    else:
        _print_tables(made, verdicts, sort)
    _print_left_out([*repeated, *left_out], to_stderr=form is not None)
    for name, write in (("--plot", _plot), ("--html", _html)):
        path = options.get(name)
        if path is not None:
            write(Path(path), made, verdicts, [*repeated, *left_out])
            print(f"wrote {path}", file=sys.stderr if form else sys.stdout)
    return 0


def _check(line: cli.CommandLine) -> str | None:
    """The form of the output; ConfigError for what does not go together."""
    if not line.words:
        raise ConfigError("compare: expected runs or folders of runs, such as outputs")
    if line.changes and "--where" not in line.options:
        raise ConfigError(f"{line.changes[0]}: compare changes nothing; --where {line.changes[0]} shows the runs that have it")
    if "--where" in line.options and not line.changes:
        raise ConfigError("--where: expected KEY=VALUE after it, such as model=lenet")
    forms = [form for form in FORMS if form in line.options]
    if len(forms) > 1:
        raise ConfigError(f"{' '.join(forms)}: expected one of them")
    return forms[0] if forms else None


def _in_order(table: Table, sort: str | None) -> list[tuple[int, Configuration]]:
    """The rows with their ranks, in the order in which they are shown."""
    if sort is None or (sort not in NUMBERS and sort not in table.columns):
        return list(enumerate(table.rows, 1))
    ranks = {id(row): rank for rank, row in enumerate(table.rows, 1)}
    return [(ranks[id(row)], row) for row in sort_rows(table.rows, sort, table.columns)]


def _print_tables(made: Sequence[Table], verdicts: Sequence[Sequence[Verdict]], sort: str | None) -> None:
    console = wide_console()
    console.width = 10_000  # no table is cut
    if not made:
        console.print("no run with a score")
    for number, (table, found) in enumerate(zip(made, verdicts, strict=True)):
        if number:
            console.print()
        console.print(Text(presentation.title(table), "bold"))
        if shared := presentation.alike(table):
            console.print(Text(shared, "dim"))
        console.print()
        drawn = RichTable(box=None, header_style="bold", pad_edge=False)
        for name in presentation.headings(table):
            drawn.add_column(Text(name), justify="left" if name in table.columns else "right", no_wrap=True)
        order = _in_order(table, sort)
        for rank, row in order:
            drawn.add_row(*map(Text, presentation.cells(table, row, rank)), style="bold" if rank == 1 else "")
        last = presentation.without_validation(table)
        line = presentation.section_line(table) if last and sort is None and len(order) > 1 else ""
        _print_drawn(console, drawn, len(order) - last, line)
        if found:
            console.print()
            _print_drawn(console, _verdict_table(order, found, table), 0, "")
        if told := presentation.notes(table, found):
            console.print(Text("\n" + "\n".join(told), "dim"))


def _print_drawn(console: Terminal, drawn: RichTable, above: int, line: str) -> None:
    """Print a table; `line`, if any, comes under its first `above` rows."""
    with console.capture() as capture:
        console.print(drawn)
    lines = [text.rstrip() for text in capture.get().splitlines()]
    if line:
        lines.insert(above + 1, line)
    sys.stdout.write("\n".join(lines) + "\n")


def _verdict_table(order: Sequence[tuple[int, Configuration]], found: Sequence[Verdict], table: Table) -> RichTable:
    drawn = RichTable(box=None, header_style="bold", pad_edge=False)
    drawn.add_column("", justify="right")
    for name in table.columns:
        drawn.add_column(Text(name), no_wrap=True)
    for name in ("difference", "p"):
        drawn.add_column(name, justify="right")
    drawn.add_column("against row 1", no_wrap=True)
    for rank, row in order:
        if rank > 1:
            start = presentation.cells(table, row, rank)[: 1 + len(table.columns)]
            drawn.add_row(*map(Text, [*start, *presentation.verdict_cells(found[rank - 2])]))
    return drawn


def _print_left_out(left_out: Sequence[LeftOut], to_stderr: bool) -> None:
    if not left_out:
        return
    console = Terminal(highlight=False, soft_wrap=True, stderr=to_stderr)
    console.print(Text(f"{'' if to_stderr else chr(10)}not counted: {len(left_out)} run{'s' if len(left_out) > 1 else ''}", "bold"))
    for one in left_out:
        console.print(Text(f"  {one.state}: {one.name}: {one.cause}"))


def _print_csv(
    rows: Sequence[Configuration], legal: Sequence[str], made: Sequence[Table], verdicts: Sequence[Sequence[Verdict]]
) -> None:
    said = {id(row): v for table, found in zip(made, verdicts, strict=True) for row, v in zip(table.rows[1:], found, strict=True)}
    heads = ("metric", "seeds", "n", "test_mean", "test_std", "test_low", "test_high", "validation_mean", "seconds", "parameters")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*legal, *heads, *presentation.VERDICT_HEADINGS])
    for row in rows:
        settings = [columns.text(row.runs[0], column) for column in legal]
        test, verdict = row.test, said.get(id(row))
        numbers: list[Any] = [row.n, test.mean, test.std, *(test.interval or (None, None)), row.validation_mean, row.seconds]
        end: list[Any] = [verdict.difference, verdict.p, verdict.text] if verdict else [None, None, "best"]
        writer.writerow([*settings, row.runs[0].metric, " ".join(map(str, row.seeds)), *numbers, row.parameters, *end])


def _print_markdown(made: Sequence[Table], verdicts: Sequence[Sequence[Verdict]], sort: str | None) -> None:
    for number, (table, found) in enumerate(zip(made, verdicts, strict=True)):
        heads = [*presentation.headings(table), *(presentation.VERDICT_HEADINGS if found else ())]
        rules = ["---" if name in (*table.columns, "verdict") else "--:" for name in heads]
        lines = [f"{chr(10) if number else ''}**{_escaped(presentation.title(table))}**", "", _row(heads), _row(rules)]
        order = _in_order(table, sort)
        for at, (rank, row) in enumerate(order):
            if sort is None and len(order) > 1 and at == len(order) - presentation.without_validation(table):
                lines.append(_row(["", f"*{_escaped(presentation.section_line(table))}*", *[""] * (len(heads) - 2)]))
            end = presentation.verdict_cells(found[rank - 2]) if found and rank > 1 else ["", "", "best"] if found else []
            lines.append(_row([*presentation.cells(table, row, rank), *end]))
        notes = presentation.notes(table, found)
        print("\n".join([*lines, *([""] if notes else []), *map(_escaped, notes)]))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    """Text that stays itself in a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _plot(path: Path, made: Sequence[Table], verdicts: Sequence[Sequence[Verdict]], left_out: Sequence[LeftOut]) -> None:
    from cnnlab.sweep import curves

    curves.save(path, made)


def _html(path: Path, made: Sequence[Table], verdicts: Sequence[Sequence[Verdict]], left_out: Sequence[LeftOut]) -> None:
    from cnnlab.sweep import report

    report.save(path, made, verdicts, left_out)


if __name__ == "__main__":
    sys.exit(cli.run("compare", sys.argv[1:]))
