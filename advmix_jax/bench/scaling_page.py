"""The page on cost to scale, made from the figures that `launch.scaling --out` writes."""

from pathlib import Path
from typing import Any

from advmix_jax.bench import markdown

TEMPLATE = 'scaling.md.j2'
NAMES = {
  'train_gan': 'Training the generator',
  'encode': 'Encoding',
  'train': 'Training with AdvMix',
  'evaluate': 'Evaluation',
}
OF = {
  'train_gan': 'images shown',
  'encode': 'images',
  'train': 'images shown',
  'evaluate': 'searches at most',
}
REASONS = {
  'matrix products': 'matrix products',
  'memory': 'reading and writing memory',
  'host': 'batches from the host',
  'all-reduce': 'adding up gradients over the devices',
}


def read_figures(path: Path) -> dict[str, Any]:
  """A file that `launch.scaling --out` wrote. Raises `BadInputError` if it is none."""
  parts = {'steps', 'hours'}
  return markdown.read_figures(path, 'launch.scaling', 'steps and hours', lambda found: parts <= set(found))


def write_page(page: Path, figures: dict[str, Any]) -> None:
  """Writes the Markdown page."""
  last = {row['stage']: row for row in figures['steps']}  # Of the generator's training, the full resolution.
  markdown.write_page(page, TEMPLATE, FILTERS, f=figures, last=last, names=NAMES, of=OF)


def percent(value: float) -> str:
  return f'{value:.0%}'


def signed(value: float) -> str:
  return f'{value:+.0%}'


def figures_of(value: float) -> str:
  """With three digits that count, and commas in thousands."""
  if value == 0:
    return '0'
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def giga(flops: dict[str, float], dtype: str) -> str:
  return figures_of(flops.get(dtype, 0.0) / 1e9)


def shares_of(shares: dict[str, float]) -> str:
  """The limits that take a twentieth of the time or more, the longest first."""
  most = sorted(shares.items(), key=lambda share: -share[1])
  return ', '.join(f'{name} {value:.0%}' for name, value in most if value >= 0.05)


def duration(hours: float) -> str:
  """`23 min`, `5.1 h`, `12 days`."""
  if hours < 1:
    return f'{hours * 60:.1f} min' if hours < 1 / 6 else f'{hours * 60:.0f} min'
  return f'{hours:.1f} h' if hours < 72 else f'{hours / 24:.1f} days'


FILTERS: markdown.Filters = {
  'percent': percent,
  'figures': figures_of,
  'giga': giga,
  'duration': duration,
  'why': REASONS.__getitem__,
  'signed': signed,
  'shares': shares_of,
}
