"""The report of a comparison: one self-contained HTML file for the screen, the phone and paper."""

import time
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnlab import __version__
from cnnlab.comparison import columns, curves, presentation
from cnnlab.comparison.configuration import Configuration
from cnnlab.comparison.runs import LeftOut, Run
from cnnlab.comparison.tables import Table, in_order
from cnnlab.comparison.verdicts import read_answers
from cnnlab.errors import CheckpointError
from cnnlab.plots import GRAY
from cnnlab.tracking import files
from cnnlab.tracking.confusion import confusion_counts

NUM_CONFUSIONS = 4  # the best configurations of a table, whose confusion matrices are shown
MAX_CLASSES = 30
NUM_COMMANDS = 3  # the commands that trained the runs are shown if there are no more
INK = "#010203"  # a placeholder for the page's text color, which is light in dark mode

STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #666; --best: #0072b21a }
@media (prefers-color-scheme: dark) { :root { --soft: #aaa; --best: #56b4e92e } }
html { background: Canvas; color: CanvasText }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 86rem; padding: 1rem }
h1 { font-size: 1.5rem; overflow-wrap: anywhere }
h2 { font-size: 1.2rem; margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem } p { margin: .4rem 0; max-width: 60rem } .soft { color: var(--soft) }
.scroll { overflow-x: auto; margin: .5rem 0 1rem } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th { font-weight: 600; white-space: normal; vertical-align: bottom }
.sorted thead th { cursor: pointer } .sorted thead th:hover { background: var(--best) }
[aria-sort=ascending]::after { content: " ▲" } [aria-sort=descending]::after { content: " ▼" }
.more::before { content: "more columns: scroll sideways →"; position: sticky; left: 0; color: var(--soft); font-size: .85rem }
.facts { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .1rem 1rem; margin: 0 } .facts dd { margin: 0 }
.facts dt { color: var(--soft) } .facts dd { overflow-wrap: anywhere; min-width: 0 }
.left { text-align: left } .best { background: var(--best); font-weight: 600 }
.wide, .rows td:nth-last-child(-n+2) { white-space: normal; min-width: 8rem; overflow-wrap: anywhere }
.path { overflow-wrap: anywhere; white-space: normal }
svg { width: 100%; max-width: 44rem; height: auto; display: block }
.legend { list-style: none; padding: 0; margin: .5rem 0 } .legend li { padding-left: 2.6rem; overflow-wrap: anywhere }
.legend span { display: inline-block; width: 2rem; margin: 0 .6rem .25rem -2.6rem }
.matrices { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 31rem), 1fr)); gap: 0 2rem }
figure { margin: .5rem 0; min-width: 0; break-inside: avoid } figcaption { overflow-wrap: anywhere }
.matrix td, .matrix th { padding: .15rem .35rem; font-size: .8rem; border: 0 } .matrix td { min-width: 1.6rem }
.matrix .name { max-width: 7rem; overflow: hidden; text-overflow: ellipsis }
.matrix thead .name { writing-mode: vertical-rl; transform: rotate(180deg); max-width: none; max-height: 7rem }
@media print {
  :root { color-scheme: light } @page { size: A4 landscape; margin: 12mm }
  body { font-size: 9.5pt; max-width: none; padding: 0 } .scroll { overflow: visible } tr, svg, p { break-inside: avoid }
  h1, h2, h3, h3 + p { break-after: avoid } th, td { padding: .1rem .35rem } .best, td { print-color-adjust: exact }
  .rows { font-size: 8pt } .rows td:nth-last-child(-n+2) { min-width: 5rem }
  details::details-content { content-visibility: visible; block-size: auto } .more::before, summary::marker { content: none }
}
"""
SCRIPT = """
for (const table of document.querySelectorAll("table.sorted")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const sort = index => {
    const best = heads[index].dataset.first ?? "ascending", other = best === "ascending" ? "descending" : "ascending";
    const order = heads[index].ariaSort === best ? other : best, sign = order === "ascending" ? 1 : -1;
    const key = row => {
      const text = row.cells[index].textContent.trim(), number = /^[<+-]?[\\d,.]+(e[+-]?\\d+)?( – .*)?$/.test(text);
      return text === "" || text === "-" ? null : number ? parseFloat(text.replace(/[,<+]/g, "")) : text;
    };
    const compare = (a, b) => {
      if (a === null || b === null) return (a === null) - (b === null);
      if (typeof a === "number" && typeof b === "number") return sign * (a - b);
      return sign * String(a).localeCompare(String(b), undefined, {numeric: true});
    };
    const rows = [...body.rows].filter(row => row.cells.length === heads.length);
    const keyed = rows.map(row => [key(row), row]).sort((a, b) => compare(a[0], b[0]));
    body.replaceChildren(...keyed.map(pair => pair[1]));
    heads.forEach((head, at) => head.ariaSort = at === index ? order : "none");
  };
  heads.forEach((head, index) => {
    head.tabIndex = 0;
    head.title = "sort by this column";
    head.onclick = () => sort(index);
    head.onkeydown = event => event.key === "Enter" && sort(index);
  });
}
const hint = () => document.querySelectorAll(".scroll").forEach(
  box => box.classList.toggle("more", box.scrollWidth > box.clientWidth));
addEventListener("resize", hint);
document.addEventListener("toggle", hint, true);
hint();
"""


def save(path: Path, made: Sequence[Table], left_out: Sequence[LeftOut], command: str) -> None:
    """Write the report; `command` is the command line that asked for it."""
    files.write_atomic(path, html(made, left_out, command).encode(errors="replace"))


def html(made: Sequence[Table], left_out: Sequence[LeftOut], command: str) -> str:
    """Return the page, the same for the same runs and command."""
    rows = sum(len(table.rows) for table in made)
    runs = [run for table in made for row in table.rows for run in row.runs]
    summary, where = f"{_count(rows, 'configuration')}, {_count(len(runs), 'run')}", presentation.folder(runs)
    parts = [_section(table) for table in made] or ["<p>No run with a score.</p>"]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(where or "cnnlab")}: {summary}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(where) or summary}</h1>
{_facts(runs, summary, command)}
{"".join(parts)}{_left_out(left_out)}
<p class="soft">cnnlab {__version__}</p>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _facts(runs: Sequence[Run], summary: str, command: str) -> str:
    """List what is compared, when it was trained, and by which commands."""
    ended = [time.strftime("%Y-%m-%d %H:%M", time.localtime(run.ended)) for run in sorted(runs, key=lambda run: run.ended)]
    trained = dict.fromkeys(str(run.directory.read_environment().get("command", "")) for run in runs)
    told = [("compared", summary)]
    if ended:
        told.append(("runs ended", " – ".join(dict.fromkeys((ended[0], ended[-1])))))
    if len(trained) <= NUM_COMMANDS:  # such as those of one sweep, perhaps resumed
        told += [("trained by", f"python -m {one}") for one in trained if one]
    told.append(("report by", command))
    return "<dl class=facts>" + "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>\n" for name, text in told) + "</dl>"


def _section(table: Table) -> str:
    told = [*presentation.shared(table), *presentation.notes(table)]
    notes = "".join(f'<p class="soft">{escape(note)}</p>\n' for note in told)
    return f"""<h2>{escape(presentation.title(table))}</h2>
{_table(table)}
{notes}
<h3>Learning curves</h3>
{_curves(table)}
{_confusions(table)}
{_runs(table)}
"""


def _table(table: Table) -> str:
    """Return the configurations with their numbers and verdicts."""
    order, heads = in_order(table), presentation.headings(table)
    settings = presentation.headings(table, short=True)[1 : 1 + len(table.columns)]
    heads[1 : 1 + len(table.columns)] = settings  # lr for optimizer.lr, so that a phone also shows the scores
    left, best = [*settings, presentation.VERDICT_HEADINGS[-1], presentation.RUN], " class=best" if len(order) > 1 else ""
    lines = [_cells("td", presentation.cells(table, row, rank), heads, left) for rank, row in order]
    lines = [f"<tr{'' if number else best}>{line}</tr>" for number, line in enumerate(lines)]
    if (at := presentation.first_without_validation(table)) is not None and at < len(order):
        line = escape(presentation.section_line(table))
        lines.insert(at, f'<tr><td colspan={len(heads)} class="left soft">{line}</td></tr>')
    lines += [f"<tr class=soft>{_cells('td', cells, heads, left)}</tr>" for cells in presentation.unfinished(table)]
    head = _cells("th", heads, heads, left, descending=("n", *(("test", "validation") if table.higher_is_better else ())))
    return _scrolling(f"<thead><tr>{head}</tr></thead>\n<tbody>\n{chr(10).join(lines)}\n</tbody>", "'sorted rows'")


def _cells(tag: str, texts: Sequence[str], heads: Sequence[str], left: Sequence[str], descending: Sequence[str] = ()) -> str:
    """Return cells, left-aligned under the headings in `left`. descending: headings that are first sorted in this order."""
    kinds = [" class=left" if name in left else " data-first=descending" if name in descending else "" for name in heads]
    shown = _breakable if tag == "th" else escape
    return "".join(f"<{tag}{kind}>{shown(text)}</{tag}>" for kind, text in zip(kinds, texts, strict=True))


def _curves(table: Table) -> str:
    lines = curves.lines_of(table)
    if not lines:
        return "<p>No metrics recorded.</p>"
    drawing = curves.svg(table, lines, INK).replace(INK, "currentColor")
    styles = {"-": "solid", "--": "dashed", ":": "dotted"}
    entries = [(line.color, styles[curves.PARTS[line.curve.part]], line.label) for line in lines if line.label]
    entries += [(GRAY, "solid", others)] if (others := curves.others(lines)) else []
    legend = "".join(
        f'<li><span style="border-top:3px {style} {color}"></span>{escape(label)}</li>\n' for color, style, label in entries
    )
    band = f'<p class="soft">{curves.BAND}</p>\n' if curves.has_band(lines) else ""
    return f"<figure>{drawing}\n<ul class=legend>\n{legend}</ul>\n{band}</figure>"


def _confusions(table: Table) -> str:
    """Return the matrices of the best rows, or why there are none; nothing for a regression."""
    if table.metric == "mae":
        return ""
    shown = [row for _, row in in_order(table)][:NUM_CONFUSIONS]
    which = f", of the best {len(shown)}" if len(shown) < len(table.rows) else ""
    figures = "".join(_confusion(table, row, rank) for rank, row in enumerate(shown, 1))
    legend = "A row for each class, a column for each prediction; the counts of all seeds are added up."
    return f'<h3>Confusion{which}</h3>\n<p class="soft">{legend}</p>\n<div class=matrices>\n{figures}</div>'


def _confusion(table: Table, row: Configuration, rank: int) -> str:
    name = escape(columns.label(row.runs[0], table.columns))
    caption = f"<figcaption>{rank}{'. ' + name if name else ''}{f' (n = {row.n})' if row.n > 1 else ''}</figcaption>"
    try:
        counts = confusion_of_seeds(row, len(table.measured_on.classes))
    except CheckpointError as error:
        return f'<figure>{caption}<p class="soft">Not shown: {escape(str(error))}</p></figure>\n'
    names = [f'<th><span class=name title="{escape(one)}">{escape(one)}</span></th>' for one in table.measured_on.classes]
    lines = []
    for index, one in enumerate(table.measured_on.classes):
        shares = counts[index] / max(1, counts[index].sum())
        cells = "".join(_cell(n, share, at == index) for at, (n, share) in enumerate(zip(counts[index], shares, strict=True)))
        lines.append(f'<tr><th class=name title="{escape(one)}">{escape(one)}</th>{cells}</tr>')
    inner = f"<thead><tr><th></th>{''.join(names)}</tr></thead>\n<tbody>{''.join(lines)}</tbody>"
    return f"<figure>{caption}\n{_scrolling(inner, 'matrix')}</figure>\n"


def _cell(count: int, share: float, right: bool) -> str:
    """Return a cell shaded by its share of the row; mistakes, which are few, are shaded four times as strongly."""
    color, strength = ("0,114,178", share * 0.6) if right else ("213,94,0", min(0.7, share * 4 * 0.6))
    style = f' style="background:rgba({color},{strength:.2f})"' if count else ""
    return f"<td{style}>{count or '·'}</td>"


def confusion_of_seeds(row: Configuration, num_classes: int) -> NDArray[np.int64]:
    """Count test images by class (rows) and predicted class (columns), over all seeds: int64, K x K.

    Raises:
        CheckpointError: a run's predictions cannot be read, or are not of `num_classes` classes.
    """
    if not 2 <= num_classes <= MAX_CLASSES:
        raise CheckpointError(f"{num_classes} classes; only 2 to {MAX_CLASSES} are drawn")
    total = np.zeros((num_classes, num_classes), np.int64)
    for run in row.runs:
        answers = read_answers(run.directory.predictions)
        both = np.concatenate([answers.label, answers.predicted])
        if both.size and (both.min() < 0 or both.max() >= num_classes):
            raise CheckpointError(f"{run.directory.predictions} is not of {num_classes} classes")
        total += confusion_counts(answers.label, answers.predicted, num_classes)
    return total


def _runs(table: Table) -> str:
    """List every run with its own scores, collapsed at first."""
    lines = []
    for rank, row in in_order(table):
        for run in row.runs:
            numbers = (str(rank), str(run.seed), presentation.number(run.test), presentation.number(run.validation))
            cells = "".join(f"<td>{text}</td>" for text in numbers)
            lines.append(f'<tr>{cells}<td class="left path">{escape(run.directory.name)}</td></tr>')
    head = "<thead><tr><th>row</th><th>seed</th><th>test</th><th>validation</th><th class=left>run</th></tr></thead>\n<tbody>"
    return f"<details><summary>Each run</summary>{_scrolling(f'{head}{chr(10).join(lines)}</tbody>', 'sorted')}</details>"


def _left_out(left_out: Sequence[LeftOut]) -> str:
    if not left_out:
        return ""
    lines = "".join(
        f'<tr><td class=left>{escape(one.status)}</td><td class="left path">{escape(one.name)}</td>'
        f"<td>{presentation.number(one.validation)}</td><td>{'-' if one.epochs is None else one.epochs}</td>"
        f'<td class="left wide">{escape(one.cause or one.command)}</td></tr>\n'
        for one in left_out
    )
    names = "<th class=left>status</th><th class=left>run</th><th>validation so far</th><th>epochs</th><th class=left></th>"
    rows = f"<thead><tr>{names}</tr></thead>\n<tbody>{lines}</tbody>"
    return f"<h2>Not counted: {_count(len(left_out), 'run')}</h2>\n{_scrolling(rows, 'sorted')}"


def _breakable(heading: str) -> str:
    """Escape a heading and let a dotted name break after its dots."""
    return escape(heading).replace(".", ".<wbr>")


def _scrolling(rows: str, kind: str = "") -> str:
    return f"<div class=scroll><table{f' class={kind}' if kind else ''}>\n{rows}\n</table></div>"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
