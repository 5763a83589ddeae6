"""`python -m cnnlab.compare RUN_OR_FOLDER ...`: runs side by side, their seeds grouped."""

import csv
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from cnnlab import cli
from cnnlab.comparison import columns, curves, layout, presentation
from cnnlab.comparison.filters import matching
from cnnlab.comparison.runs import LeftOut, Run, read_runs
from cnnlab.comparison.tables import Table, configurations, in_order, sort_rows, tables
from cnnlab.errors import ConfigError, cell, printable
from cnnlab.plots import require_matplotlib
from cnnlab.tracking import files
from cnnlab.tracking.console import Terminal

HELP = """Show runs side by side. A row is a configuration: its seeds are grouped, and only the settings that differ are shown.

  python -m cnnlab.compare outputs             every run below a folder
  python -m cnnlab.compare RUN RUN FOLDER      these
  python -m cnnlab.compare outputs --where model=lenet optimizer.lr=0.01,0.001
  python -m cnnlab.compare outputs --sort seconds --top 10
  python -m cnnlab.compare outputs --markdown > table.md
  python -m cnnlab.compare outputs --csv --runs > runs.csv
  python -m cnnlab.compare outputs --plot curves.png --html report.html

A row shows n (the number of seeds), the mean of the test score, its standard deviation and 95 % interval, the mean
validation score and seconds, the parameters, the verdict against row 1, and the run (with several seeds, the first one
and how many more there are). If the terminal is too narrow, columns are abbreviated or left out. Rows are ranked by
validation score, since the test images choose nothing; rows without one come last, by test score. The first row is tested
against every other row on the test score: by a paired t-test over the common seeds, or, with one seed each, by McNemar's
exact test on the predictions, which is about these networks only. Holm's correction covers all pairs of the table, so it
holds whichever row is first. Runs on different test images are in different tables. Runs that have not ended follow
without a rank, with their validation score so far; all runs without a test score are listed below.

Options:
  --where KEY=VALUE   only runs with this choice (model=lenet) or setting (optimizer.lr=0.01); A,B means either; several
                      conditions, each with or without its own --where, must all hold
  --sort COLUMN       sort by n, test, std, validation, seconds, parameters or a setting
  --top N             only the first N rows of each table; the tests use all rows
  --wide              all columns, even on a narrow terminal; a pipe or a file always gets them
  --csv, --markdown, --json
                      print the rows in this form and nothing else; --csv and --json do not round numbers
  --runs              with --csv or --json: one row per run, including those without a test score
  --plot FILE         draw the learning curves and their range over the seeds: .png, .svg or .pdf
  --html FILE         write a report: tables, curves, confusion matrices in one file that needs nothing else
"""
FORMS = ("--csv", "--markdown", "--json")
FILES = ("--plot", "--html")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    split = [part for word in arguments for part in (("--where", word[8:]) if word.startswith("--where=") else (word,))]
    line = cli.parse(split, ("--help", "-h", "--where", "--wide", "--runs", *FORMS), ("--sort", "--top", *FILES))
    options = line.options
    if "--help" in options or "-h" in options:
        cli.print_help(HELP)
        return 0
    form, top = _check(line), cli.top(line)
    for option in FILES:
        _check_target(option, options.get(option))
    runs = matching(read_runs(line.words), line.overrides)
    rows, left_out = configurations(runs)
    made = tables(rows, left_out, top)
    legal = columns.differing([row.runs[0] for row in rows])
    sort = options.get("--sort")
    rows = [row for table in made for row in table.rows]
    if sort is not None:
        rows = sort_rows(rows, sort, legal)
    if "--runs" in options:
        legal = columns.differing([run for run in runs if run.settings])
        _print_records(form, runs, [presentation.as_run(run, legal) for run in runs], legal)
    elif form in ("--json", "--csv"):
        places = {id(row): (table, rank) for table in made for rank, row in in_order(table, sort)}
        rows = [row for row in rows if id(row) in places]
        records = [presentation.as_values(*places[id(row)], legal) for row in rows]
        _print_records(form, [row.runs[0] for row in rows], records, legal)
    elif form == "--markdown":
        _print_markdown(made, sort)
    else:
        _print_tables(made, sort, wide="--wide" in options)
    if "--runs" not in options:
        _print_left_out(left_out, to_stderr=form is not None)
    said = sys.stderr if form else sys.stdout
    if (name := options.get("--plot")) is not None:
        curves.save(Path(name), made)
        print(f"wrote {name}", file=said)
    if (name := options.get("--html")) is not None:
        from cnnlab.comparison import report

        report.save(Path(name), made, left_out, shlex.join(["python", "-m", "cnnlab.compare", *arguments]))
        print(f"wrote {name}", file=said)
    return 0


def _check(line: cli.CommandLine) -> str | None:
    """Return the output format; raise ConfigError for options that cannot be combined."""
    if not line.words:
        raise ConfigError("compare: expected runs or folders of runs, such as outputs")
    if line.overrides and "--where" not in line.options:
        raise ConfigError(
            f"{line.overrides[0]}: compare changes no settings; --where {line.overrides[0]} selects the runs that have it"
        )
    if "--where" in line.options and not line.overrides:
        raise ConfigError("--where: expected KEY=VALUE after it, such as model=lenet")
    forms = [form for form in FORMS if form in line.options]
    if len(forms) > 1:
        raise ConfigError(f"{' '.join(forms)}: choose one of them")
    if "--runs" in line.options:
        if not {"--csv", "--json"} & set(forms):
            raise ConfigError("--runs: add --csv or --json")
        if found := {"--sort", "--top"} & set(line.options):
            raise ConfigError(f"--runs: lists runs in the order of their directories; leave out {' and '.join(sorted(found))}")
    return forms[0] if forms else None


def _check_target(option: str, name: str | None) -> None:
    """Raise ConfigError, before anything is read, if the file cannot be written."""
    if name is None:
        return
    require_matplotlib(option)
    path, formats = Path(name), curves.FORMATS if option == "--plot" else (".html", ".htm")
    if path.suffix.lower() not in formats:
        raise ConfigError(f"{option} {name}: expected a name that ends in {' or '.join(formats)}")
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"{option} {name}: {'a directory' if path.is_dir() else f'no such directory: {path.parent}'}")


def _print_tables(made: Sequence[Table], sort: str | None, wide: bool) -> None:
    console, prose = Terminal(highlight=False, soft_wrap=True), _prose()
    width = console.width if console.is_terminal and not wide else None
    if not made:
        console.print("no run with a test score")
    for number, table in enumerate(made):
        if number:
            console.print()
        prose.print(Text(presentation.title(table), "bold"))
        for text in presentation.shared(table):
            prose.print(Text(text, "dim"))
        console.print()
        lines, missing = layout.lines(table, in_order(table, sort), width)
        at = presentation.first_without_validation(table)
        if sort is None and at is not None and at + 1 < len(lines):
            lines.insert(at + 1, presentation.section_line(table))
        for text in lines:
            console.print(Text(text, "bold" if text == lines[0] else ""))
        if presentation.RUN in missing:
            console.print(Text(f"\nrow 1: {table.rows[0].runs[0].name}"))
        told = [f"Left out to fit the width: {', '.join(missing)}; --wide shows all."] if missing else []
        if told := [*told, *presentation.notes(table)]:
            prose.print(Text("\n" + "\n".join(told), "dim"))


def _prose(to_stderr: bool = False) -> Terminal:
    """Return a console for sentences: wrapped between words on a terminal, not wrapped elsewhere."""
    terminal = Terminal(highlight=False, stderr=to_stderr)
    terminal.soft_wrap = not terminal.is_terminal
    return terminal


def _print_left_out(left_out: Sequence[LeftOut], to_stderr: bool) -> None:
    if not left_out:
        return
    console = Terminal(highlight=False, stderr=to_stderr, soft_wrap=True)  # keep paths and commands on one line
    start = "" if to_stderr else "\n"
    console.print(Text(f"{start}not counted: {len(left_out)} run{'s' if len(left_out) > 1 else ''}", "bold"))
    for one in left_out:
        console.print(Text(f"  {one.status}: {one.name}"))
        for told in filter(None, (one.so_far, one.cause, one.command)):
            console.print(Text(f"    {told}"))


def _print_records(
    form: str | None, runs: Sequence[Run | LeftOut], records: Sequence[dict[str, Any]], legal: Sequence[str]
) -> None:
    """Print JSON or CSV; the cells of settings come from the runs."""
    if form == "--json":
        print(json.dumps(files.finite(records), indent=2, default=str))
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for number, (run, record) in enumerate(zip(runs, records, strict=True)):
        cells: dict[str, Any] = {column: columns.text(run, column) for column in legal}
        for name, value in record.items():
            if name == "test_interval":
                cells["test_low"], cells["test_high"] = value or (None, None)
            elif name != "settings":
                cells[name] = " ".join(map(str, value)) if isinstance(value, list) else value
        if not number:
            writer.writerow(map(cell, cells))
        writer.writerow(cell(value) if isinstance(value, str) else value for value in cells.values())


def _print_markdown(made: Sequence[Table], sort: str | None) -> None:
    for number, table in enumerate(made):
        heads = presentation.headings(table)
        left = (*table.columns, presentation.VERDICT_HEADINGS[-1], presentation.RUN)
        rules = ["---" if name in left else "--:" for name in heads]
        shared = [part for text in presentation.shared(table) for part in (_escaped(text), "")]
        title = f"{chr(10) if number else ''}**{_escaped(presentation.title(table))}**"
        lines = [title, "", *shared, _row(heads), _row(rules)]
        for at, (rank, row) in enumerate(in_order(table, sort)):
            if sort is None and at == presentation.first_without_validation(table):
                lines.append(_row(["", f"*{_escaped(presentation.section_line(table))}*", *[""] * (len(heads) - 2)]))
            lines.append(_row(presentation.cells(table, row, rank)))
        lines += map(_row, presentation.unfinished(table))
        notes = presentation.notes(table)
        print("\n".join([*lines, *([""] if notes else []), *map(_escaped, notes)]))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    """Escape text for a Markdown table."""
    return printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(cli.run("compare", sys.argv[1:]))
