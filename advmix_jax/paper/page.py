"""Records as Markdown and CSV: the paper's number, ours, the difference, and the claims."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from advmix_jax.paper import claims
from advmix_jax.paper.published import RESULTS
from advmix_jax.paper.record import read_record
from advmix_jax.progress import clock
from advmix_jax.types import BadInputError
from advmix_jax.workdir import atomic

HEADING = """# Results

What was run, beside what the paper reports (Gowal et al., CVPR 2020). This page is made from
`{folder}/*.json` by `python -m launch.reproduce page --record=FOLDER`; each of these files is written, with
its figure, by the command that is named with it and `--record=FOLDER`. Accuracies are in %, mean ± standard
deviation over n seeds; differences are ours − the paper's, in points. The time is that of all stages of all
runs, one after the other.

`cpu` is the size for two cores: 2,000 to 3,000 training images, and a generator with w of 64 that is
trained on 120,000 images. `paper`, which needs a GPU, has all images, w of 512 and 5,000,000; none of it
was run yet.

A claim holds if every difference that it asserts is above 0 by more than two standard errors (of its mean
over seeds, and over test images), and fails if one is below 0 by as much; otherwise it is within noise. An
accuracy that is said not to be below another must so be shown to be above. Three seeds say little of their
own spread: chance alone takes 18 of 100 such differences beyond two standard errors.
"""
COLUMNS = (
  'setting',
  'method',
  'paper',
  'accuracy_mean',
  'accuracy_sd',
  'difference',
  'n',
  'planned',
  'seeds',
)
SEEDS = {
  'seed': 'the whole chain, generator included',
  'train.seed': 'the classifier alone: generator and encoding are made once for all of them',
}

Record = Mapping[str, Any]


def table(record: Record) -> str:
  """Markdown of the rows."""
  result = RESULTS[record['name']]
  lines = [
    f'| {result.settings} | method | paper | ours | difference | n |',
    '|---|---|---:|---:|---:|---:|',
  ]
  for row in record['rows']:
    paper, mean, sd, seeds = row['paper'], row['accuracy_mean'], row['accuracy_sd'], row['seeds']
    cells = [
      row['setting'],
      row['method'],
      percent(paper),
      f'{100 * mean:.1f}' + ('' if sd is None else f' ± {100 * sd:.1f}') + (' †' if collapsed(row) else ''),
      '' if paper is None else f'{100 * (mean - paper):+.1f}',
      str(len(seeds)) + (f' of {len(row["planned"])}' if len(seeds) < len(row['planned']) else ''),
    ]
    lines.append('| ' + ' | '.join(cells) + ' |')
  learnt_nothing = [
    f'{row["setting"]}, {row["method"]}: seed {", ".join(map(str, seeds))}'
    for row in record['rows']
    if (seeds := collapsed(row))
  ]
  if learnt_nothing:
    lines += ['', f'† All test images are given one class: nothing was learnt. {"; ".join(learnt_nothing)}.']
  return '\n'.join(lines)


def collapsed(row: Mapping[str, Any]) -> list[int]:
  """The seeds whose classifier gives all test images one class; older records do not say."""
  known = row.get('one_class', [False] * len(row['seeds']))
  return [seed for seed, one_class in zip(row['seeds'], known, strict=True) if one_class]


def percent(value: float | None) -> str:
  """Of the paper, which has two decimals."""
  return '' if value is None else f'{100 * value:.2f}'


def claims_table(record: Record) -> str:
  """Markdown of the claims; '' if there are none about this result."""
  judged = claims.check(record['name'], record['rows'])
  if not judged:
    return ''
  lines = ['| claim | verdict | numbers, in points ± standard error |', '|---|---|---|']
  lines += [f'| {claim["claim"]} | {claim["verdict"]} | {claim["numbers"]} |' for claim in judged]
  return '\n'.join(lines)


def facts(record: Record) -> str:
  """Where the numbers are from."""
  done, planned = (len(record['runs'][key]) for key in ('done', 'planned'))
  by_stage = ', '.join(f'{stage} {clock(seconds)}' for stage, seconds in sorted(record['seconds'].items()))
  used = ', '.join(map(str, sorted({seed for row in record['rows'] for seed in row['seeds']})))
  scope = SEEDS if record['setup'] else {'seed': 'all that is drawn'}  # Figure 4 has no stages.
  seeds = ' and '.join(f'`{key}` {used}: {scope[key]}' for key in record['seed_keys'])
  software = ' and '.join(map(described, [record['versions'], *record['other_versions']]))
  lines = [
    f'command: `{record["command"]}`',
    f'commit: {record["commit"]}; {software}',
    f'machine: {record["machine"]}',
    f'time: {clock(record["wall_seconds"])} ({by_stage}); {done} of {planned} runs are done',
    f'seeds: {seeds}',
    '; '.join(f'{name}: {value}' for name, value in record['setup'].items()),
  ]
  return '\n'.join(f'* {line}' for line in lines if line)


def described(versions: Mapping[str, Any]) -> str:
  """Software of a run, and on how many devices and threads it was."""
  packages = versions['packages']
  shown = ', '.join(f'{name} {packages[name]}' for name in ('jax', 'flax', 'optax') if name in packages)
  place = f'{versions["devices"]} {versions["backend"]} device(s), {versions["threads"]} threads'
  return f'python {versions["python"]}, {shown} on {place}'


def section(record: Record, picture: str | None, remarks: str = '') -> str:
  """Markdown of one record.

  Args:
    record: as `record.make_record` makes it.
    picture: address of its figure, None = there is none.
    remarks: more Markdown, for what numbers do not say.
  """
  result = RESULTS[record['name']]
  parts = [
    f'## {result.title}, `{record["variant"]}`',
    result.caption + (f' {result.note}' if result.note else ''),
    facts(record),
    f'![{result.title}]({picture})' if picture else '',
    table(record),
    unnamed(record),
    claims_table(record),
    remarks.strip(),
  ]
  return '\n\n'.join(part for part in parts if part) + '\n'


def unnamed(record: Record) -> str:
  """The paper's numbers in settings that have no row of ours, where these have other names."""
  numbers = RESULTS[record['name']].numbers
  shown = {row['setting'] for row in record['rows']}
  settings = [s for s in dict.fromkeys(s for s, _ in numbers) if s not in shown and s.startswith('attribute')]
  if not settings:
    return ''
  lines = ['| paper | ' + ' | '.join(settings) + ' |', '|---|' + '---:|' * len(settings)]
  for method in dict.fromkeys(method for _, method in numbers):
    lines.append(f'| {method} | ' + ' | '.join(percent(numbers.get((s, method))) for s in settings) + ' |')
  return '\n'.join(lines)


def as_csv(record: Record) -> str:
  """The rows, accuracies in [0, 1]; what is not known is empty."""
  buffer = io.StringIO()
  writer = csv.DictWriter(buffer, COLUMNS, extrasaction='ignore', lineterminator='\n')
  writer.writeheader()
  for row in record['rows']:
    paper = row['paper']
    difference = None if paper is None else round(row['accuracy_mean'] - paper, 6)
    seeds = ' '.join(map(str, row['seeds']))
    shown = {'difference': difference, 'n': len(row['seeds']), 'planned': len(row['planned']), 'seeds': seeds}
    writer.writerow(dict(row) | shown)
  return buffer.getvalue()


def write_page(folder: Path) -> Path:
  """Makes `FOLDER.md` of the records in a folder, in the order of the paper.

  A file `NAME.notes.md` beside `NAME.json` is shown below its tables: what numbers do not say.

  Raises:
    BadInputError: a file is no record, or there is none.
  """
  records = {file.stem: read_record(file) for file in sorted(folder.glob('*.json'))}
  if not records:
    raise BadInputError(f'--record={folder}: found no *.json, expected files of launch.reproduce --record')
  sections = []
  for stem in sorted(records, key=lambda stem: list(RESULTS).index(records[stem]['name'])):
    picture, remarks = folder / f'{stem}.png', folder / f'{stem}.notes.md'
    address = f'{folder.name}/{picture.name}' if picture.exists() else None
    sections.append(section(records[stem], address, remarks.read_text() if remarks.exists() else ''))
  page = folder.with_name(f'{folder.name}.md')
  with atomic(page) as temporary:
    heading = HEADING.format(folder=folder.name)
    parts = [heading, summary(list(records.values())), *sections]
    temporary.write_text('\n'.join(part for part in parts if part))
  return page


def summary(records: Sequence[Record]) -> str:
  """All claims on one screen; '' if there are none."""
  lines = ['| | claim | verdict |', '|---|---|---|']
  for record in sorted(records, key=lambda record: list(RESULTS).index(record['name'])):
    title = f'{RESULTS[record["name"]].title}, `{record["variant"]}`'
    judged = claims.check(record['name'], record['rows'])
    lines += [f'| {title} | {claim["claim"]} | {claim["verdict"]} |' for claim in judged]
  return '\n'.join(lines) + '\n' if len(lines) > 2 else ''
